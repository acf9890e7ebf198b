"""p95 by exceedance counts: latencies in fine buckets, and the blocks that the evidence is folded from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.quality.sequential import Rule, fold
from bench.quality.traffic import DAY, Floats, Scenario, Traffic

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
    bounds: Floats = ratio ** (np.arange(-2 * APART, 40 * APART) / APART)
    draw = _Latencies(scenario, per_minute, bounds, rollouts, random)
    first = draw.minutes(0, 1)
    past = first.baseline
    recent: list[Arms] = []
    counts, beyond = [], []
    for block in range(rule.blocks):
        begin = block * rule.block
        arms = draw.minutes(begin, rule.block) if block else first.plus(draw.minutes(1, rule.block - 1))
        bound = np.clip(_place(past) + APART, APART, bounds.size - 1)
        if not block:
            primed = Traffic(*(column[:, None] for column in _exceeding(first, bound)))
        counts.append(_exceeding(arms, bound))
        past = arms.baseline + (2.0 ** (-rule.block / rule.half_life) * past if block else 0.0)
        recent = [*recent[-(rule.duration - 1) :], arms]
        if len(recent) == rule.duration:
            baseline = _quantile(bounds, np.sum([one.baseline for one in recent], axis=0))
            release = _quantile(bounds, np.sum([one.release for one in recent], axis=0))
            beyond.append(release > (1 + BUDGET) * baseline)
    return fold(
        Traffic(*(np.stack(column, axis=1) for column in zip(*counts, strict=True))),
        primed,
        np.stack(beyond, axis=1),
        rule,
        offset=0.0,
        step=BUDGET * (1 - QUANTILE),
        design_effect=np.ones(rollouts),
    )


class Arms(NamedTuple):
    """How many requests fall in each bucket, of shape (rollouts, buckets)."""

    baseline: Floats
    release: Floats

    def plus(self, other: Arms) -> Arms:
        """Return the sums."""
        return Arms(self.baseline + other.baseline, self.release + other.release)


class _Latencies:
    """Draws requests of both arms, some minutes at a time."""

    def __init__(
        self,
        scenario: Scenario,
        per_minute: float,
        bounds: Floats,
        rollouts: int,
        random: np.random.Generator,
    ) -> None:
        self._scenario, self._per_minute, self._bounds, self._random = scenario, per_minute, bounds, random
        self._phase = random.uniform(0, 2 * np.pi, rollouts)
        longest = scenario.lasting[1] if scenario.lasting else 0
        self._start = random.integers(0, DAY - longest, rollouts)
        self._stop = self._start + (
            random.integers(scenario.lasting[0], longest + 1, rollouts) if scenario.lasting else 0
        )

    def minutes(self, begin: int, minutes: int) -> Arms:
        """Return the requests of the minutes from ``begin``; one harmed in part is a mixture."""
        if self._scenario.lasting is None:
            harmed = np.full(self._phase.shape, float(begin >= self._scenario.onset))
        else:
            overlap = np.minimum(self._stop, begin + minutes) - np.maximum(self._start, begin)
            harmed = np.clip(overlap, 0, None) / minutes
        drift = DRIFT * np.sin(2 * np.pi * begin / DAY + self._phase)
        requests = minutes * self._per_minute
        healthy, ill = self._shares(drift, 0.0), self._shares(drift, self._scenario.harm)
        mixed = healthy * (1 - harmed)[:, None] + ill * harmed[:, None]
        return Arms(*(self._random.poisson(requests * shares).astype(float) for shares in (healthy, mixed)))

    def _shares(self, drift: Floats, harm: float) -> Floats:
        below = norm.cdf((np.log(self._bounds / (1 + harm)) - drift[:, None]) / SPREAD)
        return np.diff(below, axis=1, prepend=0.0, append=1.0)


def _exceeding(arms: Arms, bound: NDArray[np.int64]) -> Traffic:
    """Return the requests above the bound; the baseline's would, were they slower by the null margin."""
    return Traffic(
        _above(arms.baseline, bound - APART),
        arms.baseline.sum(axis=1),
        _above(arms.release, bound),
        arms.release.sum(axis=1),
    )


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
