"""The trade-off of one budget: looser and tighter thresholds, shorter and longer durations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from rollback_budget.backtest.trial import Record, Trigger, try_rule
from rollback_budget.model.budget import Budget
from rollback_budget.model.method_plan import alpha_of
from rollback_budget.model.spec import RolloutSpec

THRESHOLDS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
DURATIONS = (0.5, 1.0, 1.5, 2.0)
#: What is tried for a budget that tolerates nothing, of which there are no multiples.
EVENTS = (0.0, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One budget with another threshold and duration."""

    budget: str
    threshold: float
    max_duration: timedelta
    is_current: bool


def candidates_of(spec: RolloutSpec) -> list[Candidate]:
    """Return what a sweep tries, budget by budget."""
    return [candidate for budget in spec.budgets for candidate in _of(budget)]


def try_candidates(record: Record) -> list[Trigger | None]:
    """Return the first breach of every candidate, in their order; None also where it cannot be tried.

    Each is folded alone, with the false-rollback rate that the budget has among the others of its file.
    """
    spec = record.spec
    analysis = spec.analysis.model_copy(update={"alpha": alpha_of(spec)})
    budgets = {budget.id: budget for budget in spec.budgets}
    triggers: list[Trigger | None] = []
    for candidate in candidates_of(spec):
        if candidate.budget in record.untried:
            triggers.append(None)
            continue
        changes = {"threshold": candidate.threshold, "max_duration": candidate.max_duration}
        budget = budgets[candidate.budget].model_copy(update=changes)
        alone = spec.model_copy(update={"budgets": (budget,), "analysis": analysis})
        results = try_rule(replace(record, spec=alone))
        triggers.append(results.triggers[0] if results.triggers else None)
    return triggers


def _of(budget: Budget) -> Iterator[Candidate]:
    thresholds = [budget.threshold * factor for factor in THRESHOLDS] if budget.threshold else EVENTS
    durations = (
        [budget.max_duration * factor for factor in DURATIONS] if budget.max_duration else [timedelta(0)]
    )
    for threshold in thresholds:
        for duration in durations:
            is_current = (threshold, duration) == (budget.threshold, budget.max_duration)
            yield Candidate(budget.id, threshold, duration, is_current)
