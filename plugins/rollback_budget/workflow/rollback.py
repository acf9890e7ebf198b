"""Putting the baseline back, proving it, and writing down what came of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pydantic import AwareDatetime

from rollback_budget.errors import LedgerError
from rollback_budget.spec.frozen import Frozen
from rollback_budget.spec.model import RolloutSpec
from rollback_budget.targets.change import Change, Outcome, Report, change_traffic
from rollback_budget.targets.target import NOTHING
from rollback_budget.workflow.clock import utc_now
from rollback_budget.workflow.exchange import REPORT_KEY, Exchange, Shipment, Tasks
from rollback_budget.workflow.settings import open_ledger
from rollback_budget.workflow.traffic import ReleaseTraffic
from rollback_budget.workflow.trail import record_trail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.ledger.records import Final


class RollbackReport(Frozen):
    """What came of a rollback, as it travels to the task that writes it down."""

    outcome: Outcome
    requested_at: AwareDatetime | None
    verified_at: AwareDatetime | None
    control_plane: str
    data_plane: str
    detail: str
    by: str
    reason: str
    release_serves: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nobody needs to be paged: the release is out, by us or by whoever came after."""
        if self.outcome is Outcome.SUPERSEDED:
            return not self.release_serves
        return self.outcome is Outcome.EFFECTIVE


class RollbackOperator(BaseOperator):
    """
    Gives the baseline all traffic and verifies it on control plane and data plane.

    Never waits for the ledger, never overwrites somebody's newer change, and never does it twice. A
    rollback that is not proven within the target's deadline fails the task.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    :param send: False when the team's own operator has put the baseline back, and it is only verified.
    """

    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, send: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks
        self.rounds = rounds
        self.send = send

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the :class:`RollbackReport`."""
        from rollback_budget.ledger.records import FinalDecision

        exchange = Exchange(self.tasks, context)
        spec = exchange.spec()
        shipment = exchange.shipment()
        assert shipment is not None
        by, reason = author_of(exchange, self.rounds)
        final = self._take_final(exchange, by, reason)
        if final is not None and final.decision is FinalDecision.PROMOTED:
            raise AirflowSkipException(f"not rolled back, this rollout has ended already: {final}")
        self.log.info("rolling back %s to %s: %s", spec.release, spec.baseline, reason)
        report = self._roll_back(spec, shipment, exchange)
        document = RollbackReport(
            outcome=report.outcome,
            requested_at=report.requested_at,
            verified_at=report.verified_at,
            control_plane=report.control_plane,
            data_plane=report.data_plane,
            detail=report.detail,
            by=by,
            reason=reason,
            release_serves=report.serving is not None and report.serving.share(spec.release) > NOTHING,
        )
        context["ti"].xcom_push(key=REPORT_KEY, value=document.model_dump(mode="json"))
        self.log.info("%s", report)
        if not document.is_settled:
            raise AirflowException(f"the rollback of {spec.release} is not proven. {report}")
        return document.model_dump(mode="json")

    def _take_final(self, exchange: Exchange, by: str, reason: str) -> Final | None:
        from rollback_budget.ledger.records import FinalDecision

        try:
            return open_ledger().take_final(exchange.key, FinalDecision.ROLLED_BACK, by, reason, utc_now())
        except LedgerError as error:
            self.log.warning("a rollback does not wait for the ledger: %s", error)
            return None

    def _roll_back(self, spec: RolloutSpec, shipment: Shipment, exchange: Exchange) -> Report:
        from rollback_budget.workflow.connections import open_source, open_target

        assert spec.target is not None
        change = Change(
            shares={spec.release: 0.0, spec.baseline: 1.0},
            before=shipment.shares,
            idempotency_key=rollback_key(exchange),
            deadline=spec.target.deadline,
            send=self.send,
        )
        with asyncio.Runner() as runner:
            observe = ReleaseTraffic(spec, open_source, runner) if spec.source is not None else None
            return change_traffic(open_target(spec), change, observe=observe, log=self.log.info)


class RecordRollbackOperator(BaseOperator):
    """
    Writes the rollback, its author and the story before it into the ledger, however long that takes.

    Fails when the rollback is not proven, so that the run does.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    """

    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, **kwargs: Any) -> None:
        super().__init__(**{**PATIENT_RETRIES, **kwargs})
        self.tasks = tasks
        self.rounds = rounds

    def execute(self, context: Context) -> None:
        """Write once; a retry changes nothing that is there."""
        from rollback_budget.ledger.records import FinalDecision, RollbackRecord

        exchange = Exchange(self.tasks, context)
        if exchange.shipment() is None:
            raise AirflowSkipException("nothing was shipped, so there is nothing to record")
        value = exchange.pull(self.tasks.id("rollback"), REPORT_KEY)
        if value is None:
            raise AirflowFailException("the rollback task ended without a report; see its log")
        report = RollbackReport.model_validate(value)
        ledger = open_ledger()
        ledger.take_final(exchange.key, FinalDecision.ROLLED_BACK, report.by, report.reason, utc_now())
        record_trail(ledger, exchange, self.rounds)
        ledger.record_rollback(
            exchange.key,
            RollbackRecord(
                idempotency_key=rollback_key(exchange),
                outcome=report.outcome,
                requested_at=report.requested_at,
                verified_at=report.verified_at,
                control_plane=report.control_plane,
                data_plane=report.data_plane,
                detail=report.detail,
            ),
        )
        if not report.is_settled:
            raise AirflowFailException(
                f"the rollback is {report.outcome.value}: {report.detail} Somebody must look now. "
                f"Control plane: {report.control_plane}. Data plane: {report.data_plane}."
            )


#: For tasks that write the ledger: about four hours of patience.
PATIENT_RETRIES: dict[str, Any] = {
    "retries": 60,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


def rollback_key(exchange: Exchange) -> str:
    """Return the one idempotency key of this rollout's rollback."""
    return f"{exchange.key}/rollback"


def author_of(exchange: Exchange, rounds: int) -> tuple[str, str]:
    """Return who rolls back and why: tier A during a review, the commander, the deadline, or the rule."""
    for round_ in range(rounds, 0, -1):
        guarded = exchange.evaluation(round_, "guard")
        if guarded is not None:
            return "the rule", guarded.sentence
        answer = next((one for one in exchange.answers(before=round_ + 1) if one.round_ == round_), None)
        if answer is not None and answer.go_on:
            # They decided to go on; what rolls back is the round after it, which gave no verdict.
            break
        evaluation = exchange.evaluation(round_)
        said = "the watch gave no verdict" if evaluation is None else evaluation.sentence
        if answer is not None:
            return answer.author, answer.reason or said
        if evaluation is not None:
            return "the rule", said
    return "the rule", "the watch gave no verdict"
