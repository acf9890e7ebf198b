"""Asking the incident commander, with the evidence before their eyes and a deadline."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import SHORTEST_REASON, Choice, InvalidResponseError
from rollback_budget.common.config import link_to_chart, link_to_run, open_ledger
from rollback_budget.common.ledger_answer import recorded_answer
from rollback_budget.common.ledger_sync import final_if_known, nothing_left, record_answer
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import WATCH_RETRIES
from rollback_budget.common.review_answer import answer_of
from rollback_budget.common.review_body import ReviewContext, review_body
from rollback_budget.common.xcom import (
    ANSWER_KEY,
    DEADLINE_KEY,
    REQUEST_KEY,
    ReviewAnswer,
    RolloutXcom,
    Shipment,
    Tasks,
)
from rollback_budget.engine.silence_policy import ReviewTerms, review_terms
from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError
from rollback_budget.model.decision import OnTimeout
from rollback_budget.operators.human_question import HumanQuestionOperator
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.targets.rollback_terms import rollback_terms

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.engine.evaluation import Evaluation
    from rollback_budget.ledger.views import Final
    from rollback_budget.model.spec import RolloutSpec


class ReviewOperator(HumanQuestionOperator, HITLBranchOperator):
    """
    The incident commander decides within the deadline; silence means what the budget file says.

    Waits as a deferred task, so that the deadline holds to the second and a review that was overtaken is
    closed; Airflow takes answers to it as to any human-in-the-loop task. An answer that cannot be followed
    (an override without a reason) is asked again until the deadline.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.
    :param rounds: how many rounds the rollout has.
    :param sends: False when a team's own operator puts the baseline back; then nothing is requested from the
        trigger.
    """

    def __init__(self, *, tasks: Tasks, round_: int, rounds: int, sends: bool = True, **kwargs: Any) -> None:
        self.round_ = round_
        self.rounds = rounds
        self.sends = sends
        super().__init__(
            tasks=tasks,
            subject="Roll back, or go on?",
            options=[choice.value for choice in Choice],
            defaults=Choice.ROLL_BACK.value,
            params=_fields(),
            options_mapping={
                Choice.ROLL_BACK.value: tasks.in_round(round_, "overruled"),
                Choice.GO_ON.value: tasks.in_round(round_ + 1, "watch"),
                Choice.PROMOTE.value: tasks.in_round(round_, "accepted"),
            },
            **rollout_task(kwargs, WATCH_RETRIES),
        )

    def ask(self, context: Context) -> Any:
        """Wait until the commander answers or the deadline comes, unless this rollout has ended."""
        answer = self.recorded(context)
        if answer is not None:
            self.log.info("answered already, while Airflow could not ask")
            return self.execute_complete(context, answer)
        xcom = RolloutXcom(self.tasks, context)
        over = nothing_left(xcom.key, self.log)
        if over is not None:
            raise AirflowSkipException(f"nothing to decide: {over}")
        final = final_if_known(xcom.key, self.log)
        if final is not None:
            self.log.warning("nothing to decide, the rollback task verifies this: %s", final)
            return self.do_branch(context, self.options_mapping[Choice.ROLL_BACK.value])
        spec = xcom.spec()
        evaluation = xcom.evaluation(self.round_)
        question = review_terms(spec, evaluation)
        deadline = self.deadline_of(xcom)
        situation = ReviewContext(
            spec=spec,
            evaluation=evaluation,
            deadline=deadline,
            question=question,
            round_=self.round_,
            rounds=self.rounds,
            key=xcom.key,
            earlier=tuple(xcom.answers(before=self.round_)),
            link=link_to_run(xcom.key),
            chart=link_to_chart(xcom.key),
        )
        self.subject = f"{spec.release}: roll back, or go on?"
        self.body = review_body(situation)
        default = _default(question).value
        self.defaults = [default]
        self.assigned_users = [{"id": user.id, "name": user.name} for user in spec.incident_commanders]
        self._note_asked(xcom, deadline, question)
        shipment = xcom.shipment()
        assert shipment is not None
        order = self._order(xcom, spec, shipment)
        self.put(
            context,
            xcom.key,
            deadline,
            default,
            order=None if order is None else order.model_dump_json(),
            reason="the watch gave no verdict" if evaluation is None else evaluation.sentence,
            round_=self.round_,
            budgets=_budgets(evaluation),
            window_end=shipment.window_end.isoformat(),
        )
        return None

    def recorded(self, context: Context) -> dict[str, Any] | None:
        """Return the answer that the ledger holds for this round."""
        return recorded_answer(RolloutXcom(self.tasks, context).key, self.round_, self.log)

    def _order(self, xcom: RolloutXcom, spec: RolloutSpec, shipment: Shipment) -> RollbackOrder | None:
        """Return what the trigger needs to request a rollback; None when that is not ours to do."""
        terms = rollback_terms(spec, shipment.shares) if self.sends else None
        return None if terms is None else RollbackOrder(rollout=xcom.key, spec=spec, terms=terms)

    def _note_asked(self, xcom: RolloutXcom, deadline: datetime, question: ReviewTerms) -> None:
        """Write down that the commander can answer from now on."""
        now = utc_now()
        try:
            reviews = open_ledger().reviews
            reviews.open(xcom.key, self.round_, deadline, question.on_timeout, deadline - question.within)
            reviews.note_asked(xcom.key, self.round_, now)
        except LedgerUnavailableError as error:
            self.log.warning("the ledger does not show the review: %s", error)
        except LedgerRuleError as error:
            self.log.error("the ledger refuses the review, which no retry changes: %s", error)

    def deadline_of(self, xcom: RolloutXcom) -> datetime:
        """Return the deadline that the decision set."""
        decided = xcom.pull(self.tasks.in_round(self.round_, "decide"), DEADLINE_KEY)
        return datetime.fromisoformat(decided)

    def silence(self, xcom: RolloutXcom) -> str:
        """Return what the budget file says that silence means."""
        return _default(review_terms(xcom.spec(), xcom.evaluation(self.round_))).value

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer and follow it; a rollout that ended meanwhile leads nowhere."""
        if "error" in event:
            self.process_trigger_event_error(event)
        xcom = RolloutXcom(self.tasks, context)
        shipment = xcom.shipment()
        assert shipment is not None
        try:
            answer = self._answer(xcom, event, shipment)
        except InvalidResponseError as error:
            user = (event.get("responded_by_user") or {}).get("name")
            self.log.warning("the answer of %s cannot be followed, asking again: %s", user, error)
            return self.ask(context)
        context["ti"].xcom_push(key=ANSWER_KEY, value=answer.model_dump(mode="json"))
        if event.get("rollback") is not None:
            context["ti"].xcom_push(key=REQUEST_KEY, value=event["rollback"])
        self.log.info("%s decided %r: %s", answer.author, answer.option, answer.reason)
        self._record(xcom, answer, shipment)
        over = self._over(xcom, answer)
        if over is not None:
            self.log.warning("this answer changes nothing, the rollout has ended: %s", over)
            return self.do_branch(context, None)
        return super().execute_complete(context, {**event, "responded_at": answer.at})

    def _over(self, xcom: RolloutXcom, answer: ReviewAnswer) -> Final | None:
        """Return the final decision that makes the answer pointless.

        A rollback that is not verified yet does not: whoever requested it, the tasks behind verify it.
        """
        if answer.option == Choice.ROLL_BACK.value:
            return nothing_left(xcom.key, self.log)
        return final_if_known(xcom.key, self.log)

    def _answer(self, xcom: RolloutXcom, event: dict[str, Any], shipment: Shipment) -> ReviewAnswer:
        budgets = _budgets(xcom.evaluation(self.round_))
        return answer_of(event, round_=self.round_, budgets=budgets, window_end=shipment.window_end)

    def _record(self, xcom: RolloutXcom, answer: ReviewAnswer, shipment: Shipment) -> None:
        try:
            record_answer(open_ledger(), xcom.key, answer, shipment.window_end)
        except LedgerUnavailableError as error:
            self.log.warning("the answer is kept in this run and reaches the ledger later: %s", error)
        except LedgerRuleError as error:
            # The answer is followed all the same; the tasks that write the ledger later fail for it.
            self.log.error("the ledger refuses the answer, which no retry changes: %s", error)


def _budgets(evaluation: Evaluation | None) -> list[str]:
    return [] if evaluation is None else list(evaluation.to_be_decided)


def _default(question: ReviewTerms) -> Choice:
    return Choice.ROLL_BACK if question.on_timeout is OnTimeout.ROLLBACK else Choice.GO_ON


def _fields() -> dict[str, Param]:
    """Return the form; only such types let a review time out."""
    return {
        "reason": Param(
            None,
            type=["null", "string"],
            minLength=SHORTEST_REASON,
            description="Why. Required to go on and to promote; it is kept with the rollout.",
        ),
        "until": Param(
            None,
            type=["null", "string"],
            description="Go on: until when, as 03:27 (UTC) or 2026-01-31T03:27Z. Empty: the window's end.",
        ),
        "mute": Param(
            False,
            type="boolean",
            description="Go on: mute the breached budgets until then; otherwise they may ask again.",
        ),
    }
