"""The ramp of a rollout: more traffic for the release, stage by stage, beside the watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.ledger_refusal import fail_when_refused
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import LEDGER_RETRIES
from rollback_budget.common.xcom import DEADLINE_KEY, RolloutXcom, Shipment, Tasks
from rollback_budget.engine.evaluation import VerdictKind
from rollback_budget.exceptions import LedgerError, LedgerUnavailableError, RollbackBudgetError
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.sensors.rollback_budget import CATCH_UP_TIME
from rollback_budget.targets.apply import Outcome, TrafficChange, change_traffic
from rollback_budget.targets.base import Serving, Target
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.targets.shares import shares_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.views import Final

#: How soon a stage that is held is looked at again.
HELD_FOR = timedelta(seconds=30)
#: On top of one request's time-out: after it a write is taken for over, whatever became of its task.
WRITE_MARGIN = timedelta(seconds=5)


class StageHeldError(RollbackBudgetError):
    """The release gets no more traffic now: something was breached, or the ledger cannot say."""


class _RampOverError(Exception):
    """There is no further stage; the message says why."""


class StagesOperator(BaseOperator):
    """
    Gives the release its next share of traffic once the stage before has held long enough.

    Waits in the triggerer. Nothing is raised while a breach or a review is open, after the final decision,
    over a change that another client made, or without the ledger.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#e6f4ea"

    def __init__(self, *, tasks: Tasks, rounds: int, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, LEDGER_RETRIES))
        self.tasks = tasks
        self.rounds = rounds

    def execute(self, context: Context) -> None:
        """Raise what is due, then wait for the next stage; each is raised once, however often this runs."""
        xcom = RolloutXcom(self.tasks, context)
        shipment = xcom.shipment()
        if shipment is None:
            raise AirflowSkipException("nothing was shipped")
        spec = xcom.spec()
        assert spec.target is not None
        while True:
            try:
                with fail_when_refused():
                    stage, due = self._next(xcom, spec, shipment)
                    if due > utc_now():
                        self.log.info("stage %d of %d begins at %s", stage, len(spec.target.ramp), due)
                        self._wait(xcom, due)
                    self._raise(xcom, spec, stage)
            except StageHeldError as held:
                self.log.info("the release gets no more traffic now: %s", held)
                self._wait(xcom, utc_now() + HELD_FOR)
            except _RampOverError as over:
                self.log.info("no further stage: %s", over)
                return

    def execute_complete(self, context: Context, event: Any) -> None:  # noqa: ARG002
        """Look again."""
        self.execute(context)

    def _next(self, xcom: RolloutXcom, spec: RolloutSpec, shipment: Shipment) -> tuple[int, datetime]:
        """Return the stage (counted from 1) that comes next, and when; raises when there is none."""
        assert spec.target is not None
        ramp = spec.target.ramp
        ledger = open_ledger()
        try:
            rollout = ledger.rollouts.get(xcom.key)
            if rollout is not None and rollout.final is not None:
                if ledger.stages.write_until(xcom.key) is not None:
                    # The task ended in mid-write, or the ledger was away at its end.
                    self._after_write(xcom, spec)
                raise _RampOverError(f"the rollout has ended: {rollout.final}")
            reached = ledger.stages.of(xcom.key) or [
                ledger.stages.record(xcom.key, 1, ramp[0], shipment.window_start)
            ]
        except LedgerUnavailableError as error:
            raise StageHeldError(str(error)) from error
        last = reached[-1]
        if last.stage >= len(ramp):
            raise _RampOverError(f"the release has its {100 * ramp[-1]:g} %")
        if utc_now() >= shipment.window_end:
            raise _RampOverError("the window is over")
        return last.stage + 1, last.at + spec.target.stages[last.stage - 1].hold

    def _raise(self, xcom: RolloutXcom, spec: RolloutSpec, stage: int) -> None:
        from rollback_budget.hooks.traffic_target import open_target

        assert spec.target is not None
        before, share = spec.target.ramp[stage - 2 : stage]
        change = TrafficChange(
            shares=shares_of(spec, share),
            before=[shares_of(spec, before)],
            idempotency_key=f"{xcom.key}/stage_{stage}",
            deadline=spec.target.deadline,
        )
        target = _Held(open_target(spec), lambda: self._writing(xcom, spec))
        report = change_traffic(target, change, log=self.log.info)
        if report.outcome is Outcome.SUPERSEDED:
            raise AirflowSkipException(f"the ramp ends here: {report}")
        if report.outcome is not Outcome.EFFECTIVE:
            raise AirflowException(f"stage {stage} was not reached: {report}")
        stages = open_ledger().stages
        stages.record(xcom.key, stage, share, utc_now())
        # A try that the ledger left before could not note it.
        stages.end_write(xcom.key)
        self.log.info("stage %d: %s", stage, report)

    def _require_no_review(self, ledger: Ledger, xcom: RolloutXcom) -> None:
        """Raise :class:`StageHeldError` while the commander is asked, though no task may know of it yet."""
        answered = {decision.round for decision in ledger.decisions.of(xcom.key)}
        answered |= {answer.round_ for answer in xcom.answers(before=self.rounds + 1)}
        if any(review.round not in answered for review in ledger.reviews.of(xcom.key)):
            raise StageHeldError("the incident commander is asked")

    def _require_quiet(self, xcom: RolloutXcom) -> None:
        """Raise :class:`StageHeldError` while a decision about the release is open."""
        for round_ in range(1, self.rounds + 1):
            evaluation = xcom.evaluation(round_)
            asked = xcom.pull(self.tasks.in_round(round_, "decide"), DEADLINE_KEY)
            if evaluation is None and asked is None:
                break
            answers = [answer for answer in xcom.answers(before=round_ + 1) if answer.round_ == round_]
            if xcom.evaluation(round_, "guard") is not None:
                raise StageHeldError("a tier A breach during the review")
            if not any(answer.go_on for answer in answers):
                healthy = evaluation is not None and evaluation.verdict is VerdictKind.HEALTHY
                said = "the watch gave no verdict" if evaluation is None else evaluation.sentence
                raise StageHeldError("the window is over" if healthy else said)

    @contextmanager
    def _writing(self, xcom: RolloutXcom, spec: RolloutSpec) -> Iterator[None]:
        """Around one write of more traffic: none begins after the final decision, and none outlives it.

        A rollback that is decided meanwhile waits a moment for the write. One that could not wait longer may
        have come before it: then the traffic is moved back from here.
        """
        self._require_quiet(xcom)
        assert spec.target is not None
        ledger = open_ledger()
        try:
            self._require_no_review(ledger, xcom)
            begun = ledger.stages.begin_write(
                xcom.key, utc_now() + spec.target.request_timeout + WRITE_MARGIN
            )
        except LedgerUnavailableError as error:
            raise StageHeldError(str(error)) from error
        if not begun:
            raise StageHeldError("the rollout has ended")
        try:
            yield
        finally:
            self._after_write(xcom, spec)

    def _after_write(self, xcom: RolloutXcom, spec: RolloutSpec) -> None:
        """Move the traffic back if the rollout was rolled back during the write, however that ended.

        The write stays noted in the ledger until then, so that the next try does what this one could not.
        """
        ledger = open_ledger()
        try:
            final = ledger.final_decisions.of(xcom.key)
            if final is not None and final.decision is FinalDecision.ROLLED_BACK:
                self._move_back(xcom, spec, final)
            ledger.stages.end_write(xcom.key)
        except LedgerError as error:
            raise StageHeldError(
                f"whether the rollout ended during the last write is not known: {error}"
            ) from error

    def _move_back(self, xcom: RolloutXcom, spec: RolloutSpec, final: Final) -> None:
        from rollback_budget.rollback.request import RequestOutcome
        from rollback_budget.triggers.on_verdict import rollback_sender

        assert spec.target is not None
        terms = rollback_terms(spec, shares_of(spec, spec.target.ramp[0]))
        if terms is None:
            return
        self.log.warning("the rollout was rolled back during this write: %s", final)
        order = RollbackOrder(rollout=xcom.key, spec=spec, terms=terms)
        request = rollback_sender(self.log).request(
            order, final.by, final.reason, within=spec.target.deadline, after="stage"
        )
        self.log.info("%s", request)
        if request.outcome is RequestOutcome.NOT_ACCEPTED:
            raise AirflowException(f"a stage landed after the rollback, and is not moved back. {request}")

    def _wait(self, xcom: RolloutXcom, until: datetime) -> None:
        from rollback_budget.triggers.stage import StageTrigger

        now = utc_now()
        self.defer(
            trigger=StageTrigger(
                dag_id=xcom.key.dag_id,
                run_id=xcom.key.run_id,
                until=until.isoformat(),
                deferred_at=now.isoformat(),
            ),
            method_name="execute_complete",
            timeout=until - now + CATCH_UP_TIME,
        )


class _Held:
    """A target that enters ``writing`` around each write."""

    def __init__(self, target: Target, writing: Callable[[], AbstractContextManager[None]]) -> None:
        self._target = target
        self._writing = writing

    def read(self) -> Serving:
        return self._target.read()

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        return self._target.rehearse(serving)

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        with self._writing():
            self._target.apply(shares, expected=expected, idempotency_key=idempotency_key)
