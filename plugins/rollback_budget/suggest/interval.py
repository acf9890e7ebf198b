"""How well a rate is known that was counted."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from rollback_budget.model.base import Frozen

_CONFIDENCE = 0.95


class Rate(Frozen):
    """A counted rate with the interval in which it lies with 95 % confidence (Wilson 1927)."""

    windows: int
    count: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        """The rate and its interval in percent."""
        return f"{_percent(self.rate)} ({_percent(self.low)} to {_percent(self.high)})"


def rate_of(count: int, windows: int) -> Rate:
    """Return the rate of ``count`` among ``windows``, which are at least one."""
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2.0)
    share = count / windows
    middle = (share + z * z / (2 * windows)) / (1 + z * z / windows)
    half = z / (1 + z * z / windows) * sqrt(share * (1 - share) / windows + (z / (2 * windows)) ** 2)
    low = 0.0 if count == 0 else max(middle - half, 0.0)
    high = 1.0 if count == windows else min(middle + half, 1.0)
    return Rate(windows=windows, count=count, rate=share, low=low, high=high)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %"
