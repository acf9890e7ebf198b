"""What the commander's silence means, and after how long: it rolls back unless the budget says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.model.decision import Action, OnTimeout, TierDecision
from rollback_budget.model.spec import RolloutSpec


@dataclass(frozen=True)
class ReviewTerms:
    """The terms of a review: how long the commander has, and what no answer in time means."""

    within: timedelta
    on_timeout: OnTimeout


def review_terms(spec: RolloutSpec, evaluation: Evaluation | None) -> ReviewTerms:
    """Return the terms of the review: the shortest deadline, and the safest meaning of silence."""
    decisions: list[TierDecision] = []
    if evaluation is not None:
        decisions = [
            decision
            for decision in (spec.decision.of(breach.tier) for breach in evaluation.breaches)
            if decision.action is Action.INCIDENT_COMMANDER_DECISION
        ]
    decisions = decisions or [spec.decision.tier_b_breach]
    silent = {decision.on_timeout for decision in decisions}
    return ReviewTerms(
        within=min(decision.within for decision in decisions),
        on_timeout=OnTimeout.ROLLBACK if OnTimeout.ROLLBACK in silent else OnTimeout.CONTINUE,
    )
