"""Simulated rollouts: 24 h of one-minute buckets, both arms, with and without harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY = 24 * 60
#: Share of bad requests of both arms; over a day it drifts by ``DRIFT`` to either side.
LEVEL, DRIFT = 0.10, 0.02
#: A release that is ramped up: from which hour on it gets which share of the traffic.
RAMP = ((0, 0.05), (3, 0.10), (6, 0.25), (9, 0.50))
#: Correlated arms: each minute's level wanders on its own, and is forgotten over about five minutes.
MEMORY = 0.8


@dataclass(frozen=True)
class Scenario:
    """What happens in a rollout.

    :param harm: by how much the release's share of bad requests rises, as a probability.
    :param onset: minute from which it does.
    :param lasting: least and most minutes that it does, at a random time; None until the end.
    :param share: of the traffic that the release gets; None for :data:`RAMP` with a daily cycle of traffic.
    :param clustering: long-run variance over binomial variance; 1 for independent requests.
    """

    name: str
    harm: float = 0.0
    onset: int = 0
    lasting: tuple[int, int] | None = None
    share: float | None = 0.5
    clustering: float = 1.0


class Traffic(NamedTuple):
    """Bad requests and requests of each arm by minute, each of shape (rollouts, minutes)."""

    baseline_bad: Floats
    baseline: Floats
    release_bad: Floats
    release: Floats

    def by_block(self, minutes: int) -> Traffic:
        """Return the sums over blocks of ``minutes``; what is left at the end is dropped."""
        return Traffic(*(in_blocks(counts, minutes) for counts in self))


def in_blocks(counts: Floats, minutes: int) -> Floats:
    """Return the sums of (rollouts, minutes) over blocks."""
    rollouts, length = counts.shape
    blocks = length // minutes
    return counts[:, : blocks * minutes].reshape(rollouts, blocks, minutes).sum(axis=2)


def simulate(scenario: Scenario, per_minute: float, rollouts: int, random: np.random.Generator) -> Traffic:
    """Draw rollouts.

    :param per_minute: requests of an arm in a minute on average, when both get the same.
    """
    minute = np.arange(DAY)
    phase = random.uniform(0, 2 * np.pi, (rollouts, 1))
    level = LEVEL + DRIFT * np.sin(2 * np.pi * minute / DAY + phase)
    harm = np.zeros((rollouts, DAY))
    if scenario.lasting is None:
        harm[:, scenario.onset :] = scenario.harm
    else:
        length = random.integers(scenario.lasting[0], scenario.lasting[1] + 1, (rollouts, 1))
        start = random.integers(0, DAY - scenario.lasting[1], (rollouts, 1))
        harm[(minute >= start) & (minute < start + length)] = scenario.harm
    total = np.full((rollouts, DAY), 2.0 * per_minute)
    if scenario.share is None:
        share = np.zeros(DAY)
        for hour, given in RAMP:
            share[hour * 60 :] = given
        # Busy hours are the bad ones: pooled over the day, the ramp alone looks like harm.
        total *= 1 + 0.5 * np.sin(2 * np.pi * minute / DAY + phase)
    else:
        share = np.full(DAY, scenario.share)
    release = random.poisson(total * share)
    baseline = random.poisson(total * (1 - share))
    wander = [
        _wandering(scenario.clustering, per_minute, rollouts, random)
        for _ in range(2 if scenario.clustering > 1 else 0)
    ] or [np.zeros(1), np.zeros(1)]
    return Traffic(
        random.binomial(baseline, np.clip(level + wander[0], 0.001, 0.999)).astype(float),
        baseline.astype(float),
        random.binomial(release, np.clip(level + harm + wander[1], 0.001, 0.999)).astype(float),
        release.astype(float),
    )


def _wandering(clustering: float, per_minute: float, rollouts: int, random: np.random.Generator) -> Floats:
    """Return a first-order autoregression whose long-run variance gives the design effect ``clustering``."""
    long_run = (clustering - 1) * LEVEL * (1 - LEVEL) / per_minute
    deviation = np.sqrt(long_run * (1 - MEMORY) / (1 + MEMORY))
    noise = random.normal(0.0, deviation, (rollouts, DAY))
    wander = np.empty_like(noise)
    wander[:, 0] = noise[:, 0]
    for minute in range(1, DAY):
        wander[:, minute] = MEMORY * wander[:, minute - 1] + np.sqrt(1 - MEMORY**2) * noise[:, minute]
    return wander
