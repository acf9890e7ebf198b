"""p95 by exceedance counts: latencies in fine buckets, and the blocks that the evidence is folded from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.quality.sequential import Rule, fold
from bench.quality.traffic import Floats, Scenario, Traffic

#: The budget: p95 15 % up for 20 minutes.
BUDGET = 0.15
#: Latencies are log-normal around a second; the median of both arms drifts by a tenth over a day.
SPREAD, DRIFT = 0.6, 0.1
QUANTILE = 0.95
#: Two neighbouring bounds are half of the null margin apart, so that it is a whole number of buckets.
APART = 2


def exceedance(
    scenario: Scenario, per_minute: float, rule: Rule, rollouts: int, random: np.random.Generator
) -> Floats:
    """Return the minute at which each simulated rollout breaches.

    :param scenario: its ``harm`` is by how much every latency of the release is longer, as a fraction.
    """
    ratio = 1 + rule.null_margin * BUDGET
    bounds = ratio ** (np.arange(-2 * APART, 40 * APART) / APART)
    blocks = rule.blocks
    phase = random.uniform(0, 2 * np.pi, rollouts)
    start = random.integers(0, blocks * rule.block - 10, rollouts)
    lasting = (
        None
        if scenario.lasting is None
        else random.integers(scenario.lasting[0], scenario.lasting[1] + 1, rollouts)
    )
    past = np.zeros((rollouts, bounds.size + 1))
    recent: list[tuple[Floats, Floats]] = []
    counts: list[tuple[Floats, Floats, Floats, Floats]] = []
    beyond = []
    first = None
    for block in range(-1, blocks):
        begin = max(block, 0) * rule.block
        minutes = 1 if block < 0 else rule.block
        drift = DRIFT * np.sin(2 * np.pi * begin / 1440 + phase)
        if lasting is None:
            harmed = np.full(rollouts, float(begin >= scenario.onset))
        else:
            overlap = np.minimum(start + lasting, begin + minutes) - np.maximum(start, begin)
            harmed = np.clip(overlap, 0, None) / minutes
        arms = [_buckets(bounds, drift, 0.0, minutes * per_minute, random)]
        # A block that is harmed in part is a mixture of both.
        healthy = _buckets(bounds, drift, 0.0, minutes * per_minute * (1 - harmed), random)
        ill = _buckets(bounds, drift, scenario.harm, minutes * per_minute * harmed, random)
        arms.append(healthy + ill)
        if block < 0:
            past, first = arms[0].copy(), arms
            continue
        bound = np.clip(_place(past) + APART, APART, bounds.size - 1)
        if block == 0:
            primed = [
                _above(arm, place) for arm, place in zip(first or arms, (bound - APART, bound), strict=True)
            ]
            begun = Traffic(
                *(value[:, None] for value in (primed[0], first[0].sum(1), primed[1], first[1].sum(1)))
            )
            arms = [arm + look for arm, look in zip(arms, first, strict=True)]
        counts.append(
            (_above(arms[0], bound - APART), arms[0].sum(1), _above(arms[1], bound), arms[1].sum(1))
        )
        past = past * 2.0 ** (-rule.block / rule.half_life) + arms[0]
        recent = [*recent[-(rule.duration - 1) :], (arms[0], arms[1])]
        if len(recent) == rule.duration:
            baseline, release = (_quantile(bounds, sum(pair[arm] for pair in recent)) for arm in (0, 1))
            beyond.append(release > (1 + BUDGET) * baseline)
    folded = Traffic(*(np.stack(column, axis=1) for column in zip(*counts, strict=True)))
    return fold(
        folded,
        begun,
        np.stack(beyond, axis=1),
        rule,
        offset=0.0,
        step=BUDGET * (1 - QUANTILE),
        design_effect=np.ones(rollouts),
    )


def _buckets(
    bounds: Floats, drift: Floats, harm: float, requests: Floats | float, random: np.random.Generator
) -> Floats:
    """Draw how many requests of each rollout fall under each bound, and above the last."""
    below = norm.cdf((np.log(bounds / (1 + harm)) - drift[:, None]) / SPREAD)
    shares = np.diff(below, axis=1, prepend=0.0, append=1.0)
    return random.poisson(shares * np.broadcast_to(requests, drift.shape)[:, None]).astype(float)


def _place(buckets: Floats) -> NDArray[np.int64]:
    """Return the place of the first bound that the quantile does not exceed."""
    return (buckets.cumsum(axis=1) < QUANTILE * buckets.sum(axis=1, keepdims=True)).sum(axis=1)


def _above(buckets: Floats, place: NDArray[np.int64]) -> Floats:
    """Return how many requests exceed the bound at ``place``."""
    return buckets.sum(axis=1) - np.take_along_axis(buckets.cumsum(axis=1), place[:, None], axis=1)[:, 0]


def _quantile(bounds: Floats, buckets: Floats) -> Floats:
    """Return the quantile, interpolated within its bucket in the logarithm."""
    total = buckets.cumsum(axis=1)
    place = np.clip(_place(buckets), 1, bounds.size - 1)[:, None]
    low, high = (np.take_along_axis(total, at, axis=1)[:, 0] for at in (place - 1, place))
    part = np.clip((QUANTILE * total[:, -1] - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.exp(np.log(bounds)[place[:, 0] - 1] * (1 - part) + np.log(bounds)[place[:, 0]] * part)
