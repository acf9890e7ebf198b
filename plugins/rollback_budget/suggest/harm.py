"""Harm put into windows without change: a release that is worse by a known amount, with the same noise."""

from __future__ import annotations

from math import floor, inf
from random import Random

from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import Histogram, quantile_of, read_quantile
from rollback_budget.model.budget import Budget, Comparison, Worse
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.spec import RolloutSpec


def can_harm(budget: Budget) -> bool:
    """Whether harm of a multiple of the threshold can be put into recorded looks."""
    return bool(budget.threshold) and budget.comparison in (
        Comparison.DELTA_PCT,
        Comparison.DELTA_PP,
        Comparison.DELTA,
    )


def harmed(spec: RolloutSpec, budget: Budget, arms: Arms, harm: float, random: Random) -> Arms:
    """Return ``arms`` with a release that is worse by ``harm`` times the threshold from the first look on.

    A proportion with counts gets whole events again, by rounding at random, so that few events are right on
    average. A histogram is that of requests which are all slower by the same factor.
    """
    worse = 1.0 if budget.worse is Worse.HIGHER else -1.0
    by = harm * worse * abs(budget.threshold)

    def moved(value: float) -> float:
        if budget.comparison is Comparison.DELTA_PCT:
            return value * max(1.0 + by / 100.0, 0.0)
        return value + (by / 100.0 if budget.comparison is Comparison.DELTA_PP else by)

    values = [moved(value) for value in arms.release]
    if budget.comparison is Comparison.DELTA_PP or spec.metric(budget.metric).kind is MetricKind.PROPORTION:
        values = [
            _whole(min(max(value, 0.0), 1.0) if value == value else value, n, random)
            for value, n in zip(values, arms.release_n, strict=True)
        ]
    if not arms.release_buckets:
        return arms.changed(release=values)
    level = quantile_of(budget.metric)
    factor = max(1.0 + by / 100.0, 1e-9) if budget.comparison is Comparison.DELTA_PCT else 1.0
    buckets = [None if histogram is None else slower(histogram, factor) for histogram in arms.release_buckets]
    if level is not None:
        read = [
            read_quantile(histogram, level).value if histogram else value
            for histogram, value in zip(buckets, values, strict=True)
        ]
        values = [one if one == one else other for one, other in zip(read, values, strict=True)]
    return arms.changed(release=values, release_buckets=buckets)


def slower(histogram: Histogram, factor: float) -> Histogram:
    """Return the histogram of requests that take ``factor`` times as long, evenly inside their buckets."""
    total = max(histogram.values(), default=0.0)
    return {bound: total if bound == inf else _up_to(histogram, bound / factor) for bound in histogram}


def _up_to(histogram: Histogram, value: float) -> float:
    below, start = 0.0, 0.0
    for bound in sorted(histogram):
        count = histogram[bound]
        if value <= bound:
            inside = (value - start) / (bound - start) if bound < inf else 0.0
            return below + inside * (count - below)
        below, start = count, bound
    return below


def _whole(value: float, n: float, random: Random) -> float:
    if not n >= 1.0 or value != value:
        return value
    return floor(value * n + random.random()) / n
