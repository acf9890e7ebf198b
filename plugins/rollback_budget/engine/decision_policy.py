"""The decision policy: what a verdict leads to."""

from __future__ import annotations

from enum import StrEnum

from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.model.decision import Action
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind


class NextStep(StrEnum):
    """Where a rollout goes after a watch."""

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    ASK = "ask"


def rounds_of(spec: RolloutSpec) -> int:
    """Return how many times a rollout may be watched: once, and once more for every override."""
    return spec.max_overrides + 1


def next_step(spec: RolloutSpec, evaluation: Evaluation | None, *, round_: int, rounds: int) -> NextStep:
    """Return where the verdict of round ``round_`` (counted from 1) of ``rounds`` leads.

    A breach after the last allowed override rolls back without asking. So does a watch that ended
    without a verdict (None: the task itself failed), unless ``on_blind`` lets the commander decide.
    """
    ask = NextStep.ASK if round_ < rounds else NextStep.ROLL_BACK
    if evaluation is None or evaluation.verdict is VerdictKind.BLIND:
        return NextStep.ROLL_BACK if spec.watch.on_blind is OnBlind.ROLLBACK else ask
    actions = {spec.decision.of(breach.tier).action for breach in evaluation.breaches}
    if Action.AUTO_ROLLBACK in actions:
        return NextStep.ROLL_BACK
    if Action.INCIDENT_COMMANDER_DECISION in actions:
        return ask
    return NextStep.PROMOTE
