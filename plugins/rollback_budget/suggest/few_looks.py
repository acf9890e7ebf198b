"""What can be known from the few looks of a slow metric, and what cannot."""

from __future__ import annotations

from math import ceil, sqrt

from rollback_budget.engine.design_effect import LEAST_STEPS
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import pace_of
from rollback_budget.suggest.cells import LEAST_CELLS
from rollback_budget.suggest.change import LEAST_BLOCKS
from rollback_budget.suggest.record import DAY, NoChangeRecord
from rollback_budget.text import plural


def few_looks(record: NoChangeRecord, budget: Budget) -> str | None:
    """Say what a budget's few looks leave open; None where there are enough of them."""
    looks, every = len(record.frame.of(budget.series).times), pace_of(record.spec, budget.metric).every
    if looks >= LEAST_STEPS:
        return None
    known = ""
    if looks > 1:
        # Of the standard deviation of independent normal values.
        known = f" the spread is known to about {100 / sqrt(2 * (looks - 1)):.0f} %, and"
    unknown = f"no design effect can be told from fewer than {LEAST_STEPS}"
    if looks < LEAST_BLOCKS and budget.comparison.needs_baseline:
        unknown += f", no shift or drift from fewer than {LEAST_BLOCKS}"
    drawn = ""
    if looks < LEAST_CELLS and len(record.paces) > 1:
        drawn = f"; with fewer than {LEAST_CELLS}, what it shares with faster metrics is only nearly kept"
    return (
        f"few looks, {looks} of {say_duration(every)}:{known} {unknown}; what happens less often than once in"
        f" {plural(max(looks, 1), 'look')} is in no window{drawn}. {ceil(LEAST_STEPS * every / DAY)} days"
        f" would give {LEAST_STEPS}"
    )
