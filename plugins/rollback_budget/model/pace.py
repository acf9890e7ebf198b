"""The pace of a metric: how often it brings a value, how late, and what that means for its budgets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from rollback_budget.clock import grid_floor
from rollback_budget.model.metric import BucketBy
from rollback_budget.model.spec import RolloutSpec


class Pace(NamedTuple):
    """How the budgets on a metric are looked at; everything that counts looks is in steps of ``every``.

    :param every: the length of a look; a sample at ``t`` covers ``(t - every, t]``.
    :param lag: how long after its end a look is decided.
    :param leaves_out: how much after shipping is left out on top of ``watch.grace``: values that arrive then
        belong to requests of the time before.
    :param shift: how much later than a look of ``watch.settle`` one of the same time is decided.
    :param max_gap: the longest hole that still burns.
    :param blind_after: how long nothing may be known.
    """

    every: timedelta
    lag: timedelta
    leaves_out: timedelta
    shift: timedelta
    max_gap: timedelta
    blind_after: timedelta


def pace_of(spec: RolloutSpec, metric: str) -> Pace:
    """Return the pace of a metric: its own, or that of the watch.

    Where it does not say otherwise, ``max_gap`` and ``blind_after`` are as many steps of a slower metric as
    they are of ``watch.step``.
    """
    described, watch = spec.metrics.get(metric), spec.watch
    if described is None or not described.has_own_pace:
        nothing = timedelta(0)
        return Pace(watch.step, watch.settle, nothing, nothing, watch.max_gap, watch.blind_after)
    every = watch.step if described.every is None else described.every
    late = watch.settle if described.lag is None else described.lag
    arrives = described.bucket_by is BucketBy.ARRIVAL
    lag = watch.settle if arrives else late
    longer = max(every / watch.step, 1.0)
    return Pace(
        every=every,
        lag=lag,
        leaves_out=late if arrives else timedelta(0),
        shift=lag - watch.settle,
        max_gap=longer * watch.max_gap if described.max_gap is None else described.max_gap,
        blind_after=longer * watch.blind_after if described.blind_after is None else described.blind_after,
    )


def paces_of(spec: RolloutSpec) -> tuple[Pace, ...]:
    """Return the distinct paces of the budgets, in the order of the file."""
    return tuple(dict.fromkeys(pace_of(spec, budget.metric) for budget in spec.budgets))


def series_of(spec: RolloutSpec, pace: Pace) -> tuple[str, ...]:
    """Return the names of the series that are looked at in ``pace``, sorted."""
    return tuple(sorted({one.series for one in spec.budgets if pace_of(spec, one.metric) == pace}))


def most_looks(spec: RolloutSpec, pace: Pace) -> int:
    """Return how many looks of a pace lie within the window at most.

    One less is certain: a release ships when it ships, and most often while a look goes on.
    """
    return max((spec.window - spec.watch.grace - pace.leaves_out) // pace.every, 0)


def longest_shift(spec: RolloutSpec) -> timedelta:
    """Return how much later than ``watch.settle`` the last look of a window is decided."""
    return max((pace.shift for pace in paces_of(spec)), default=timedelta(0))


def tail_of(spec: RolloutSpec, window_end: datetime) -> timedelta:
    """Return how much later than the last look of the watch's own pace the last look of all is decided.

    Less than nothing where every metric is slow, and the last look of the window lies earlier.
    """
    last = grid_floor(window_end, spec.watch.step)
    return max(grid_floor(window_end, pace.every) + pace.shift - last for pace in paces_of(spec))


def first_decided(spec: RolloutSpec) -> timedelta:
    """Return how long after shipping and grace the first look is decided, where every metric is slow.

    Nothing where a metric is looked at as ``watch`` says.
    """
    each = (pace.leaves_out + pace.shift + pace.every - spec.watch.step for pace in paces_of(spec))
    return max(min(each), timedelta(0))
