"""Cumulative histograms: how many events of one step were at most so large, and the quantiles in them."""

from __future__ import annotations

import re
import sys
from functools import cache
from math import inf, nan
from typing import NamedTuple

#: ``-FINITE <= x <= FINITE`` is false for NaN and for both infinities.
FINITE = sys.float_info.max
#: Buckets may fall by this part of all events by float noise.
NOISE = 1e-9

#: Where a metric's name does not say which quantile it is.
DEFAULT_QUANTILE = 0.95

#: How many events of one step were at most so large, by upper bound.
Histogram = dict[float, float]


class Quantile(NamedTuple):
    """A quantile as its histogram tells it.

    :param value: NaN when nothing is known of it.
    :param is_least: whether it lies beyond the largest finite bound, so that it is more than ``value``.
    """

    value: float
    is_least: bool


@cache
def quantile_of(series: str) -> float | None:
    """Return which quantile a metric is by its name (``p95``, ``latency_p99``), None when it does not say."""
    named = re.search(r"(?:^|_)p(\d\d\d?)(?:_|$)", series.partition(":")[0])
    return None if named is None else int(named[1]) / 10 ** len(named[1])


def read_quantile(histogram: Histogram, level: float) -> Quantile:
    """Return the quantile, taken to lie evenly inside its bucket; NaN for a histogram without events."""
    bounds = sorted(histogram)
    wanted = level * histogram[bounds[-1]] if bounds else 0.0
    below, start = 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if wanted > 0.0 and count >= wanted:
            if bound <= FINITE:
                return Quantile(start + (bound - start) * (wanted - below) / (count - below), False)
            return Quantile(start, True) if len(bounds) > 1 else Quantile(nan, False)
        below, start = count, bound
    return Quantile(nan, False)


def quantile_in(histogram: Histogram, level: float) -> float:
    """Return the quantile, NaN also where only a least value is known."""
    found = read_quantile(histogram, level)
    return nan if found.is_least else found.value


def fault_of(histogram: Histogram) -> str | None:
    """Say why a histogram cannot be trusted; None for one that can, and for one without events."""
    bounds = sorted(histogram)
    if not bounds:
        return None
    if bounds[-1] != inf:
        return (
            f"its histogram ends at {bounds[-1]:g} without a bucket `+Inf`: how many events there were is"
            " not known"
        )
    below, start = 0.0, 0.0
    noise = NOISE * max(histogram.values())
    for bound in bounds:
        count = histogram[bound]
        if count < below - noise:
            return (
                f"its histogram is not cumulative: {below:g} events of at most {start:g}, and {count:g} of at"
                f" most {'+Inf' if bound == inf else f'{bound:g}'}"
            )
        below, start = max(count, below), bound
    return None
