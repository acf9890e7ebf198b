"""Putting the baseline back, proving it, and writing down what came of it."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.heartbeat import beating
from rollback_budget.common.ledger_refusal import fail_when_refused
from rollback_budget.common.ledger_sync import sync_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import LEDGER_RETRIES, QUICK_RETRIES
from rollback_budget.common.xcom import (
    BASELINE_KEY,
    REPORT_KEY,
    RollbackContext,
    RollbackReport,
    RolloutXcom,
    Shipment,
    Tasks,
)
from rollback_budget.exceptions import LedgerError, LedgerRuleError, LedgerUnavailableError
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.model.choice import RULE
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.notifications.task_notifications import page, rollback_message
from rollback_budget.rollback.order import rollback_key, rolled_back
from rollback_budget.rollback.verify import MOST_PROOFS, VerifiedRollback, verify_rollback
from rollback_budget.targets.apply import Outcome, TrafficChange
from rollback_budget.targets.shares import shares_left

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.clock import Log
    from rollback_budget.engine.evaluation import Evaluation


class RollbackOperator(BaseOperator):
    """
    Gives the baseline all traffic and verifies it on control plane and data plane.

    Never waits for the ledger, never overwrites a newer change by another client, and never does it twice. A
    rollback that is not proven within the target's deadline fails the task.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    :param send: False when the team's own operator has put the baseline back, and it is only verified.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, send: bool = True, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.tasks = tasks
        self.rounds = rounds
        self.send = send

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the :class:`RollbackReport`."""
        xcom = RolloutXcom(self.tasks, context)
        if not self.send and xcom.pull(self.tasks.id("verdict")) is None:
            raise AirflowSkipException("nothing was rolled back")
        spec = xcom.spec()
        shipment = xcom.shipment()
        assert shipment is not None
        by, reason = take_rolled_back(xcom, *author_of(xcom, self.rounds), self.log)
        self.log.info("rolling back %s to %s: %s", spec.release, spec.baseline, reason)
        # What a trigger got accepted is not sent again, unless it turns out not to be effective.
        accepted_at = self._requested_at(xcom) if context["ti"].try_number == 1 else None
        with beating(xcom.key):
            verified = self._roll_back(spec, shipment, xcom, accepted_at)
        report = verified.report
        document = RollbackReport(
            outcome=report.outcome,
            requested_at=report.requested_at,
            verified_at=report.verified_at,
            control_plane=report.control_plane,
            data_plane=report.data_plane,
            detail=verified.detail,
            by=by,
            reason=reason,
            baseline_troubles=verified.baseline_problems,
            release_serves=verified.release_serves,
        )
        context["ti"].xcom_push(key=REPORT_KEY, value=document.model_dump(mode="json"))
        self.log.info("%s", report)
        if not document.is_settled:
            page(rollback_message(xcom, document), context, self.log)
            self._report_unproven(context, document)
        return document.model_dump(mode="json")

    def _report_unproven(self, context: Context, report: RollbackReport) -> None:
        """Fail loudly; what was accepted and is not effective is tried once more, then left to people.

        The one place that knows, at the end of every try, that the on-call engineer must be paged.
        """
        said = f"the rollback is not proven. {report.said}"
        self.log.error("%s", said)
        if report.outcome is not Outcome.FAILED and context["ti"].try_number >= MOST_PROOFS:
            raise AirflowFailException(said)
        raise AirflowException(said)

    def _requested_at(self, xcom: RolloutXcom) -> datetime | None:
        """Return when a trigger, or standby, got the rollback accepted; None when none did."""
        requested_at = xcom.rollback_requested_at(self.rounds)
        if requested_at is not None:
            return requested_at
        try:
            record = open_ledger().rollbacks.of(xcom.key)
        except LedgerError as error:
            self.log.warning("whether the rollback was requested already is not known: %s", error)
            return None
        return None if record is None or record.outcome is Outcome.FAILED else record.requested_at

    def _roll_back(
        self, spec: RolloutSpec, shipment: Shipment, xcom: RolloutXcom, accepted_at: datetime | None
    ) -> VerifiedRollback:
        from rollback_budget.hooks.http import close_shared_session
        from rollback_budget.hooks.metric_source import open_shared_source
        from rollback_budget.hooks.traffic_target import open_target

        assert spec.target is not None
        change = TrafficChange(
            shares=rolled_back(spec),
            before=shares_left(spec, shipment.shares),
            idempotency_key=rollback_key(xcom.key),
            deadline=spec.target.deadline,
            send=self.send,
            accepted_at=accepted_at,
        )
        evaluation = evaluation_behind(xcom, self.rounds)
        return verify_rollback(
            open_target(spec),
            spec,
            change,
            open_source=open_shared_source,
            close_sources=close_shared_session,
            breaches=() if evaluation is None else evaluation.breaches,
            before=xcom.pull(self.tasks.id("preflight"), BASELINE_KEY),
            warn=lambda problem: self.log.error("%s", problem),
            log=self.log.info,
        )


class RecordRollbackOperator(BaseOperator):
    """
    Writes the rollback, its author and what happened before it into the ledger, however long that takes.

    Fails when the rollback is not proven, so that the run does.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, LEDGER_RETRIES))
        self.tasks = tasks
        self.rounds = rounds

    def execute(self, context: Context) -> None:
        """Write once; a retry changes nothing that is there."""
        from rollback_budget.ledger.views import FinalDecision, RollbackRecord

        xcom = RolloutXcom(self.tasks, context)
        if xcom.shipment() is None:
            raise AirflowSkipException("nothing was shipped, so there is nothing to record")
        value = xcom.pull(self.tasks.id("rollback"), REPORT_KEY)
        if value is None:
            raise AirflowFailException("the rollback task ended without a report; see its log")
        report = RollbackReport.model_validate(value)
        ledger = open_ledger()
        record = RollbackRecord(
            idempotency_key=rollback_key(xcom.key),
            outcome=report.outcome,
            requested_at=report.requested_at,
            verified_at=report.verified_at,
            control_plane=report.control_plane,
            data_plane=report.data_plane,
            detail=report.detail,
        )
        with fail_when_refused():
            rolled_back = FinalDecision.ROLLED_BACK
            ledger.final_decisions.take(xcom.key, rolled_back, report.by, report.reason, utc_now())
            sync_ledger(ledger, xcom, self.rounds)
            ledger.rollbacks.record(xcom.key, record)
        if not report.is_settled:
            raise AirflowFailException(
                f"the on-call engineer must look now, the rollback is not proven. {report.said}"
            )


class VerdictOperator(BaseOperator):
    """
    Takes the final decision "rolled back", and gives a team's own rollback the verdict as its XCom value.

    A rollout that has ended another way is not rolled back: then this is skipped, and what follows with it.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#f9d6d5"

    def __init__(self, *, tasks: Tasks, rounds: int, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.tasks = tasks
        self.rounds = rounds

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the :class:`RollbackContext`."""
        xcom = RolloutXcom(self.tasks, context)
        if xcom.shipment() is None:
            raise AirflowSkipException("nothing was shipped, so there is nothing to roll back")
        spec = xcom.spec()
        by, reason = take_rolled_back(xcom, *author_of(xcom, self.rounds), self.log)
        evaluation = evaluation_behind(xcom, self.rounds)
        verdict = RollbackContext(
            release=spec.release,
            baseline=spec.baseline,
            service=spec.service,
            verdict=None if evaluation is None else evaluation.verdict.value,
            sentence="the watch gave no verdict" if evaluation is None else evaluation.sentence,
            by=by,
            reason=reason,
            shares=rolled_back(spec),
            idempotency_key=rollback_key(xcom.key),
            breaches=() if evaluation is None else evaluation.breaches,
        )
        return verdict.model_dump(mode="json")


def take_rolled_back(xcom: RolloutXcom, by: str, reason: str, log: Log) -> tuple[str, str]:
    """Take the final decision "rolled back"; a rollout that was promoted is skipped.

    Without the ledger the rollback goes on.

    :return: who decided it and why: a trigger, or standby, may have done so before.
    """
    from rollback_budget.ledger.views import FinalDecision

    try:
        final = open_ledger().final_decisions.take(xcom.key, FinalDecision.ROLLED_BACK, by, reason, utc_now())
    except LedgerUnavailableError as error:
        log.warning("a rollback does not wait for the ledger: %s", error)
        return by, reason
    except LedgerRuleError:
        # Traffic goes back first; the task that records the rollback fails for it.
        logging.getLogger(__name__).exception("the ledger refuses the final decision; the rollback goes on")
        return by, reason
    if final.decision is FinalDecision.PROMOTED:
        raise AirflowSkipException(f"not rolled back, this rollout has ended already: {final}")
    return final.by, final.reason


def evaluation_behind(xcom: RolloutXcom, rounds: int) -> Evaluation | None:
    """Return the verdict that led to the rollback: the latest guard's or watch's; None when there is none."""
    for round_ in range(rounds, 0, -1):
        for task in ("guard", "watch"):
            evaluation = xcom.evaluation(round_, task)
            if evaluation is not None:
                return evaluation
    return None


def author_of(xcom: RolloutXcom, rounds: int) -> tuple[str, str]:
    """Return who rolls back and why: tier A during a review, the commander, the deadline, or the rule."""
    for round_ in range(rounds, 0, -1):
        guarded = xcom.evaluation(round_, "guard")
        if guarded is not None:
            return RULE, guarded.sentence
        answer = next((one for one in xcom.answers(before=round_ + 1) if one.round_ == round_), None)
        if answer is not None and answer.go_on:
            # They decided to go on; what rolls back is the round after it, which gave no verdict.
            break
        evaluation = xcom.evaluation(round_)
        said = "the watch gave no verdict" if evaluation is None else evaluation.sentence
        if answer is not None:
            return answer.author, answer.reason or said
        if evaluation is not None:
            return RULE, said
    return RULE, "the watch gave no verdict"
