"""The tasks that send notifications: beside the decisions, so that no decision waits for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import NOTIFICATION_RETRIES
from rollback_budget.common.xcom import DEADLINE_KEY, REPORT_KEY, RollbackReport, RolloutXcom, Tasks
from rollback_budget.engine.decision_policy import rounds_of
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError
from rollback_budget.model.choice import RULE, SILENCE, Choice
from rollback_budget.model.notify import Event
from rollback_budget.notifications.dispatch import send
from rollback_budget.notifications.notification import Notification
from rollback_budget.notifications.round_messages import round_message, say_silence, verdict_messages
from rollback_budget.notifications.task_notifications import rollback_message, send_all

if TYPE_CHECKING:
    from airflow.sdk import Context

#: After its deadline an answer takes at most this long to be written down.
AFTERWARDS = timedelta(minutes=2)
#: A triggerer that was unavailable gets this much longer.
LONGEST_LATE = timedelta(minutes=10)


class AnnounceOperator(BaseOperator):
    """
    Sends messages; what cannot be sent is retried, and in the end only logged.

    :param tasks: the task ids of the rollout.
    """

    ui_color = "#f2f2f2"

    def __init__(self, *, tasks: Tasks, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, NOTIFICATION_RETRIES))
        self.tasks = tasks

    def send(self, context: Context, *messages: Notification) -> None:
        """Send the messages; raises on all tries but the last when a notifier was not reached."""
        send_all(self, context, messages)


class AnnounceRoundOperator(AnnounceOperator):
    """
    Notifies of a round's breach and review, of its deadline, and of what was decided.

    Writes into the ledger that the commander is asked, and until when.

    :param round_: counted from 1.
    """

    def __init__(self, *, tasks: Tasks, round_: int, **kwargs: Any) -> None:
        super().__init__(tasks=tasks, **kwargs)
        self.round_ = round_

    def execute(self, context: Context) -> None:
        """Notify of what the watch said; wait for the middle of the review, where there is one."""
        xcom = RolloutXcom(self.tasks, context)
        deadline = self._deadline(xcom)
        if deadline is not None:
            self._record_review(xcom, deadline)
        self.send(context, *self._verdict(xcom, deadline))
        if deadline is None or not xcom.spec().notify:
            return
        evaluation = xcom.evaluation(self.round_)
        half_time = deadline - review_terms(xcom.spec(), evaluation).within / 2
        self._wait(xcom, half_time, "tell_half_time")

    def tell_half_time(self, context: Context, event: dict[str, Any]) -> None:
        """Notify that the deadline is near, unless the review is answered."""
        xcom = RolloutXcom(self.tasks, context)
        deadline = self._deadline(xcom)
        assert deadline is not None
        if event["is_over"] or self._answered(xcom):
            self.tell_decision(context, event)
            return
        spec = xcom.spec()
        missed = send(
            self._message(xcom, Event.DEADLINE_NEAR, self._silence(xcom, deadline), deadline),
            context,
            self.log,
        )
        if missed:
            self.log.error("notifiers that were not reached: %s", "; ".join(missed))
        assert spec.notify
        self._wait(xcom, deadline + AFTERWARDS, "tell_decision")

    def tell_decision(self, context: Context, event: dict[str, Any]) -> None:  # noqa: ARG002
        """Notify of who decided what; nothing when the rollout ended without an answer."""
        xcom = RolloutXcom(self.tasks, context)
        said = self._decided(xcom)
        if said is None:
            self.log.info("the review was overtaken before it was answered")
            return
        self.send(context, self._message(xcom, Event.DECIDED, said))

    def _decided(self, xcom: RolloutXcom) -> str | None:
        """Say who decided what; None when the rollout ended without an answer.

        The review's own task may still have to wait when its trigger has acted on the answer.
        """
        answer = next((one for one in xcom.answers(self.round_ + 1) if one.round_ == self.round_), None)
        if answer is not None:
            return _say_decision(answer.author, answer.option, answer.reason)
        try:
            ledger = open_ledger()
            recorded, final = ledger.answers.of(xcom.key, self.round_), ledger.final_decisions.of(xcom.key)
        except LedgerUnavailableError as error:
            self.log.warning("who decided is not known without the ledger: %s", error)
            return None
        if recorded is not None:
            return _say_decision(recorded.author, recorded.option, recorded.reason)
        if final is None or final.by == RULE:
            return None
        option = Choice.PROMOTE if final.decision.value == "promoted" else Choice.ROLL_BACK
        return _say_decision(final.by, option.value, None if final.by == SILENCE else final.reason)

    def _verdict(self, xcom: RolloutXcom, deadline: datetime | None) -> list[Notification]:
        # The trigger has sent them, unless it could not.
        evaluation = xcom.evaluation(self.round_)
        return verdict_messages(xcom.key, xcom.spec(), self.round_, evaluation, deadline)

    def _message(
        self, xcom: RolloutXcom, event: Event, sentence: str, deadline: datetime | None = None
    ) -> Notification:
        return round_message(xcom.key, xcom.spec(), self.round_, event, sentence, deadline)

    def _silence(self, xcom: RolloutXcom, deadline: datetime) -> str:
        return say_silence(xcom.spec(), xcom.evaluation(self.round_), deadline)

    def _deadline(self, xcom: RolloutXcom) -> datetime | None:
        decided = xcom.pull(self.tasks.in_round(self.round_, "decide"), DEADLINE_KEY)
        return None if decided is None else datetime.fromisoformat(decided)

    def _answered(self, xcom: RolloutXcom) -> bool:
        return any(one.round_ == self.round_ for one in xcom.answers(self.round_ + 1))

    def _record_review(self, xcom: RolloutXcom, deadline: datetime) -> None:
        question = review_terms(xcom.spec(), xcom.evaluation(self.round_))
        opened_at = deadline - question.within
        try:
            open_ledger().reviews.open(xcom.key, self.round_, deadline, question.on_timeout, opened_at)
        except LedgerUnavailableError as error:
            self.log.warning("the ledger does not show the review: %s", error)
        except LedgerRuleError as error:
            # The commander is asked all the same: the rollout's review does not depend on its record.
            self.log.error("the ledger refuses the review, which no retry changes: %s", error)

    def _wait(self, xcom: RolloutXcom, until: datetime, method_name: str) -> None:
        from rollback_budget.triggers.reminder import ReminderTrigger

        now = utc_now()
        self.defer(
            trigger=ReminderTrigger(
                dag_id=xcom.key.dag_id,
                run_id=xcom.key.run_id,
                round_=self.round_,
                until=until.isoformat(),
                deferred_at=now.isoformat(),
            ),
            method_name=method_name,
            timeout=max(until - now, timedelta(0)) + LONGEST_LATE,
        )


class AnnounceRollbackOperator(AnnounceOperator):
    """Notifies that the release was rolled back, or that the rollback could not be proven."""

    def execute(self, context: Context) -> None:
        """Notify of the outcome; nothing when nothing was rolled back."""
        xcom = RolloutXcom(self.tasks, context)
        value = xcom.pull(self.tasks.id("rollback"), REPORT_KEY)
        if value is None:
            raise AirflowSkipException("nothing was rolled back")
        self.send(context, rollback_message(xcom, RollbackReport.model_validate(value)))


class AnnouncePromotionOperator(AnnounceOperator):
    """Notifies that the release was promoted."""

    def execute(self, context: Context) -> None:
        """Notify of the promotion."""
        xcom = RolloutXcom(self.tasks, context)
        spec = xcom.spec()
        said = f"{_say_promoter(xcom)}, and {spec.release} takes over from {spec.baseline}"
        self.send(context, Notification(Event.PROMOTED, Event.PROMOTED.value, xcom.key, spec, said))


def _say_decision(by: str, option: str, reason: str | None) -> str:
    return f"{by} decided: {option}{f': {reason}' if reason else ''}"


def _say_promoter(xcom: RolloutXcom) -> str:
    answers = xcom.answers(before=rounds_of(xcom.spec()) + 1)
    answer = next((one for one in answers if one.promote), None)
    if answer is None:
        return "the window is over"
    return f"{answer.author} ended the watch ({answer.reason})"
