"""Handing the verdict to a team's own rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.common.xcom import RolloutXcom, Tasks
from rollback_budget.engine.evaluation import Breach
from rollback_budget.model.base import Frozen
from rollback_budget.operators.rollback import author_of, evaluation_behind, rollback_key, take_rolled_back

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackContext(Frozen):
    """Why a rollout is rolled back, for whoever does it.

    :param verdict: ``breach`` or ``blind``; None when the watch gave none.
    :param by: the commander, ``the deadline`` or ``the rule``.
    :param shares: the traffic that a rollback leaves, by version.
    :param idempotency_key: the same for every try.
    """

    release: str
    baseline: str
    service: str
    verdict: str | None
    sentence: str
    by: str
    reason: str
    shares: dict[str, float]
    idempotency_key: str
    breaches: tuple[Breach, ...] = ()


class VerdictOperator(BaseOperator):
    """
    Takes the final decision "rolled back", and gives a team's own rollback the verdict as its XCom value.

    A rollout that has ended another way is not rolled back: then this is skipped, and what follows with it.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    """

    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks
        self.rounds = rounds

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the :class:`RollbackContext`."""
        exchange = RolloutXcom(self.tasks, context)
        if exchange.shipment() is None:
            raise AirflowSkipException("nothing was shipped, so there is nothing to roll back")
        spec = exchange.spec()
        by, reason = author_of(exchange, self.rounds)
        take_rolled_back(exchange, by, reason, self.log)
        evaluation = evaluation_behind(exchange, self.rounds)
        verdict = RollbackContext(
            release=spec.release,
            baseline=spec.baseline,
            service=spec.service,
            verdict=None if evaluation is None else evaluation.verdict.value,
            sentence="the watch gave no verdict" if evaluation is None else evaluation.sentence,
            by=by,
            reason=reason,
            shares={spec.release: 0.0, spec.baseline: 1.0},
            idempotency_key=rollback_key(exchange),
            breaches=() if evaluation is None else evaluation.breaches,
        )
        return verdict.model_dump(mode="json")
