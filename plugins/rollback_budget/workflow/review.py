"""Asking the incident commander, with the evidence before their eyes and a deadline."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from rollback_budget.engine.decision import question_of
from rollback_budget.errors import LedgerError
from rollback_budget.spec.model import OnTimeout
from rollback_budget.workflow.clock import utc_now
from rollback_budget.workflow.evidence import review_body
from rollback_budget.workflow.exchange import ANSWER_KEY, DEADLINE_KEY, Answer, Exchange, Tasks
from rollback_budget.workflow.settings import open_ledger
from rollback_budget.workflow.trail import final_if_known, record_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

ROLL_BACK_NOW = "Roll back now"
GO_ON = "Go on"
SHORTEST_REASON = 5
#: A triggerer that is away must not keep the commander from being asked.
LONGEST_LOOK = timedelta(minutes=2)
#: Airflow's sweep needs a deadline in the future.
SHORTEST_WAIT = timedelta(seconds=1)


class ReviewOperator(HITLBranchOperator):
    """
    The incident commander decides within the deadline; silence means what the budget file says.

    "Go on" needs a reason; an answer without one is asked again until the deadline.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.
    """

    # The body is built from data when the task runs; nothing in it may be taken for a template.
    template_fields: Sequence[str] = ()
    ui_color = "#fde8c8"

    def __init__(self, *, tasks: Tasks, round_: int, **kwargs: Any) -> None:
        self.tasks = tasks
        self.round_ = round_
        reason = Param(
            None,
            type=["null", "string"],
            minLength=SHORTEST_REASON,
            description="Why. Required to go on; it is kept with the rollout.",
        )
        super().__init__(
            subject="Roll back, or go on?",
            options=[ROLL_BACK_NOW, GO_ON],
            defaults=ROLL_BACK_NOW,
            params={"reason": reason},
            options_mapping={
                ROLL_BACK_NOW: tasks.in_round(round_, "overruled"),
                GO_ON: tasks.in_round(round_ + 1, "watch"),
            },
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Ask; a retry first looks whether the commander has answered already."""
        ti = context["ti"]
        if ti.try_number > 1:
            from rollback_budget.workflow.prior_answer import PriorAnswerTrigger

            self.defer(
                trigger=PriorAnswerTrigger(ti_id=str(ti.id), deferred_at=utc_now().isoformat()),
                method_name="execute_again",
                timeout=LONGEST_LOOK,
            )
        return self.ask(context)

    def execute_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Follow the answer that is there already, or ask; clearing a review takes no answer back."""
        answer = event["answer"]
        if answer is None:
            return self.ask(context)
        self.log.info("answered already")
        responded_at = datetime.fromisoformat(answer["responded_at"])
        return self.execute_complete(context, {**answer, "responded_at": responded_at})

    def ask(self, context: Context) -> Any:
        """Park until somebody answers or the deadline comes, unless this rollout has ended."""
        exchange = Exchange(self.tasks, context)
        final = final_if_known(exchange.key, self.log)
        if final is not None:
            raise AirflowSkipException(f"nothing to decide: {final}")
        spec = exchange.spec()
        evaluation = exchange.evaluation(self.round_)
        question = question_of(spec, evaluation)
        deadline = self._deadline(exchange)
        self.subject = f"{spec.release}: roll back, or go on?"
        self.body = review_body(spec, evaluation, deadline, question, exchange.key)
        self.defaults = [ROLL_BACK_NOW if question.on_timeout is OnTimeout.ROLLBACK else GO_ON]
        self.assigned_users = [{"id": user.id, "name": user.name} for user in spec.incident_commanders]
        self.response_timeout = max(deadline - utc_now(), SHORTEST_WAIT)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer and follow it; a rollout that ended meanwhile leads nowhere."""
        exchange = Exchange(self.tasks, context)
        answer = self._answer(exchange, event)
        if answer.go_on and answer.by is not None and len(answer.reason or "") < SHORTEST_REASON:
            self.log.warning("%s said %r without a reason; asking again", answer.by, answer.option)
            return self.ask(context)
        context["ti"].xcom_push(key=ANSWER_KEY, value=answer.model_dump(mode="json"))
        self.log.info("%s decided %r: %s", answer.author, answer.option, answer.reason)
        self._record(exchange, answer)
        final = final_if_known(exchange.key, self.log)
        if final is not None:
            self.log.warning("this answer came too late and changes nothing: %s", final)
            return self.do_branch(context, None)
        return super().execute_complete(context, event)

    def _answer(self, exchange: Exchange, event: dict[str, Any]) -> Answer:
        if "error" in event:
            self.process_trigger_event_error(event)
        evaluation = exchange.evaluation(self.round_)
        user = event.get("responded_by_user")
        option = event["chosen_options"][0]
        reason = (event.get("params_input") or {}).get("reason")
        return Answer(
            round_=self.round_,
            option=option,
            go_on=option == GO_ON,
            by=None if user is None else user["name"],
            reason=reason.strip() if isinstance(reason, str) else None,
            at=event["responded_at"],
            budgets=() if evaluation is None else tuple(breach.budget for breach in evaluation.breaches),
        )

    def _deadline(self, exchange: Exchange) -> datetime:
        decided = exchange.pull(self.tasks.in_round(self.round_, "decide"), DEADLINE_KEY)
        return datetime.fromisoformat(decided)

    def _record(self, exchange: Exchange, answer: Answer) -> None:
        shipment = exchange.shipment()
        assert shipment is not None
        try:
            record_answer(open_ledger(), exchange.key, answer, shipment.window_end)
        except LedgerError as error:
            self.log.warning("the answer is kept in this run and reaches the ledger later: %s", error)
