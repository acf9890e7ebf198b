"""Simulated requests in sessions: what one user asks goes well or badly together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY = 24 * 60
#: Share of bad requests of both versions.
RATE = 0.10
#: Requests a minute and version.
PER_MINUTE = 30.0


@dataclass(frozen=True)
class Sessions:
    """How requests cluster.

    :param size: requests of a session.
    :param correlation: of two requests of one session (intra-class).
    :param lasting: minutes over which the requests of a session are spread.
    """

    size: int
    correlation: float
    lasting: int

    @property
    def design_effect(self) -> float:
        """The variance of a rate over that of independent requests (Kish 1965)."""
        return 1.0 + (self.size - 1) * self.correlation


Counts = NDArray[np.int64]


def simulate(
    sessions: Sessions, days: int, random: np.random.Generator, *, harm: float = 0.0
) -> tuple[Counts, Counts]:
    """Return bad requests and requests of one version, minute by minute.

    Every session has a rate of its own, beta-distributed, so that two of its requests are correlated.

    :param harm: by how much the share of bad requests is higher.
    """
    minutes, lead, rate = days * DAY, sessions.lasting, RATE + harm
    begun = random.poisson(PER_MINUTE / sessions.size, minutes + lead)
    start = np.repeat(np.arange(-lead, minutes), begun)
    spread = 1.0 / sessions.correlation - 1.0
    own = random.beta(rate * spread, (1.0 - rate) * spread, start.size)
    at = np.repeat(start, sessions.size) + random.integers(0, lead, start.size * sessions.size)
    bad = random.random(at.size) < np.repeat(own, sessions.size)
    inside = (at >= 0) & (at < minutes)
    return (
        np.bincount(at[inside & bad], minlength=minutes),
        np.bincount(at[inside], minlength=minutes),
    )
