"""How long blocks must be that keep the correlation of a series: the rule of Politis and White."""

from __future__ import annotations

from collections.abc import Sequence
from math import cbrt, ceil, log10, sqrt

#: A correlation within this many standard errors of nothing is none (Politis and White 2004).
_STANDARD_ERRORS = 2.0


def block_length(values: Sequence[float]) -> float:
    """Return the length of blocks, in values, with which a bootstrap errs least about the long-run variance.

    Politis and White (2004), for blocks of one length, with the correction of Patton, Politis and White
    (2009).

    :param values: equally far apart; a series that does not vary has blocks of 1.
    """
    length = len(values)
    mean = sum(values) / length
    centred = [value - mean for value in values]
    in_a_row = max(5, ceil(sqrt(log10(length))))
    furthest = min(ceil(sqrt(length)) + in_a_row, length - 1)
    covariances = [_covariance(centred, lag) for lag in range(furthest + 1)]
    if covariances[0] <= 0.0:
        return 1.0
    least = _STANDARD_ERRORS * sqrt(log10(length) / length)
    is_seen = [abs(covariance / covariances[0]) >= least for covariance in covariances]
    lag = next(
        (first for first in range(1, furthest - in_a_row + 2) if not any(is_seen[first : first + in_a_row])),
        furthest,
    )
    # ``lag - 1`` is the last one with a correlation.
    bandwidth = min(2 * max(lag - 1, 1), furthest)
    long_run = weighted = 0.0
    for lag in range(-bandwidth, bandwidth + 1):
        taper = _flat_top(lag / bandwidth)
        long_run += taper * covariances[abs(lag)]
        weighted += taper * abs(lag) * covariances[abs(lag)]
    if long_run <= 0.0:
        return 1.0
    found = cbrt(2.0 * weighted**2 / (4.0 / 3.0 * long_run**2) * length)
    return min(max(found, 1.0), min(3.0 * sqrt(length), length / 3.0))


def _flat_top(part: float) -> float:
    return min(1.0, 2.0 * (1.0 - abs(part)))


def _covariance(values: Sequence[float], lag: int) -> float:
    return sum(one * other for one, other in zip(values, values[lag:], strict=False)) / len(values)
