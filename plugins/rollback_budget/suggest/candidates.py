"""Rules near the one that there is, the nearest first, and the fast line beside a slow one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from math import copysign, inf

from rollback_budget.backtest.sweep import DURATIONS, EVENTS, THRESHOLDS
from rollback_budget.engine.detection import FAST_DURATION, SLOW_FACTOR
from rollback_budget.model.budget import Budget, Comparison, Worse
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.harm import can_harm

#: A fast line is for harm of this many thresholds.
FAST_MULTIPLE = 10.0
#: At most so much: twice as much must still be possible.
MOST_POINTS, MOST_PERCENT = 30.0, 50.0
#: A line must be beyond the loosest that is tried for its budget.
LEAST_APART = max(THRESHOLDS)


def near(spec: RolloutSpec, budget: Budget) -> Iterator[Budget]:
    """Yield ``budget`` with larger thresholds, and within each with longer durations; itself is the first.

    A smaller threshold or a shorter duration would be another agreement about what harm is tolerated: noise
    is no reason for it. A duration that is proposed is a multiple of the metric's step, rounded up.
    """
    every = pace_of(spec, budget.metric).every
    yield budget
    seen = {(budget.threshold, budget.max_duration)}
    factors = [factor for factor in THRESHOLDS if factor >= 1.0]
    thresholds = [budget.threshold * factor for factor in factors]
    if not budget.threshold:
        thresholds = [-event if budget.worse is Worse.LOWER else event for event in EVENTS]
    durations = [budget.max_duration * factor for factor in DURATIONS if factor >= 1.0]
    for threshold in thresholds:
        for duration in durations if budget.max_duration else [timedelta(0)]:
            line = (threshold, -(-duration // every) * every)
            if line not in seen:
                seen.add(line)
                yield budget.model_copy(update={"threshold": line[0], "max_duration": line[1]})


def is_slow_metric(spec: RolloutSpec, budget: Budget) -> bool:
    """Whether looks of the metric are so long, or come so late, that no line on it is a fast one."""
    pace = pace_of(spec, budget.metric)
    return max(pace.every, pace.shift + pace.leaves_out) > max(FAST_DURATION, spec.watch.step)


def fast_line(spec: RolloutSpec, budget: Budget) -> Budget | None:
    """Return a line for big harm beside ``budget``.

    None where that is fast, or has a faster one, or its metric is slow.
    """
    if is_slow_metric(spec, budget):
        return None
    every = pace_of(spec, budget.metric).every
    others = [one for one in spec.budgets if (one.area, one.series) == (budget.area, budget.series)]
    duration = -(-FAST_DURATION // every) * every
    is_fastest = budget.max_duration <= min(other.max_duration for other in others)
    if not is_fastest or not can_harm(budget) or budget.max_duration <= duration:
        return None
    most = inf
    if budget.comparison is Comparison.DELTA_PP:
        most = MOST_POINTS
    elif budget.comparison is Comparison.DELTA_PCT and budget.worse is Worse.LOWER:
        most = MOST_PERCENT
    by = min(FAST_MULTIPLE * abs(budget.threshold), most)
    if by <= LEAST_APART * abs(budget.threshold):
        return None
    return budget.model_copy(
        update={
            "id": f"{budget.id} (fast)",
            "threshold": copysign(by, budget.threshold),
            "max_duration": duration,
        }
    )


def time_to_find(spec: RolloutSpec, budget: Budget, find_within: timedelta) -> timedelta:
    """Return within which time harm of twice the threshold should be found, were looks never late.

    It leaves room for a few looks of a slow metric.
    """
    every = pace_of(spec, budget.metric).every
    return max(find_within, SLOW_FACTOR * max(budget.max_duration, every))


def time_lost(spec: RolloutSpec, budget: Budget) -> timedelta:
    """Return in which time nothing can be known: a slow metric's lag, and what is left out after shipping."""
    pace = pace_of(spec, budget.metric)
    return max(pace.shift, timedelta(0)) + pace.leaves_out
