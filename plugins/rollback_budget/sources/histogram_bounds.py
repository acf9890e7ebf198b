"""Bounds of a latency histogram that is fine enough for the budgets that read it."""

from __future__ import annotations

from datetime import timedelta
from math import ceil, log

from rollback_budget.engine.histogram import quantile_of
from rollback_budget.model.budget import Comparison
from rollback_budget.model.spec import RolloutSpec

#: Where no budget says how fine.
USUAL_RATIO = 1.05
#: More bounds than this cost more than they show.
MOST_BOUNDS = 300


def ratio_for(spec: RolloutSpec) -> float:
    """Return by how much one bound is above the one before; it depends on the budgets, not on the source.

    A test of a quantile compares the release beyond ``q`` with the baseline beyond ``q / (1 + margin)``: with
    ``sqrt(1 + margin)`` from bound to bound, both lie on a bound.
    """
    margins = [
        spec.analysis.null_margin * abs(budget.threshold) / 100.0
        for budget in spec.budgets
        if quantile_of(budget.metric) is not None and budget.comparison is Comparison.DELTA_PCT
    ]
    return (1.0 + min(margins)) ** 0.5 if margins and min(margins) > 0.0 else USUAL_RATIO


def bounds_for(spec: RolloutSpec, fastest: timedelta, slowest: timedelta) -> tuple[float, ...]:
    """Return bounds in seconds, ascending, each the same ratio above the one before."""
    first, last = fastest.total_seconds(), slowest.total_seconds()
    ratio = max(ratio_for(spec), (last / first) ** (1.0 / MOST_BOUNDS))
    steps = ceil(log(last / first) / log(ratio) - 1e-9)
    return tuple(first * ratio**step for step in range(steps + 1))
