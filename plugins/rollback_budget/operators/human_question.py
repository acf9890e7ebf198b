"""What every question to an incident commander has in common: a deadline to the second, asked once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import TaskAwaitingInput, TaskDeferralTimeout

from rollback_budget.clock import utc_now
from rollback_budget.common.xcom import RolloutXcom, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.triggers.review import ReviewTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from rollback_budget.ledger.rollout_key import RolloutKey

#: An unavailable triggerer must not keep the commander from being asked.
LONGEST_LOOK = timedelta(minutes=2)
#: How long after the deadline Airflow itself ends a question whose triggerer is unavailable.
LATE = timedelta(seconds=20)


class HumanQuestionOperator(HITLOperator):
    """
    Asks a person, and waits as a deferred task.

    So the deadline holds to the second and a question that was overtaken is closed; Airflow takes answers to
    it as to any human-in-the-loop task.

    :param tasks: the task ids of the rollout.
    """

    # The body is built from data when the task runs; nothing in it may be taken for a template.
    template_fields = ()
    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#fde8c8"

    def __init__(self, *, tasks: Tasks, **kwargs: Any) -> None:
        self.tasks = tasks
        super().__init__(**kwargs)

    def execute(self, context: Context) -> Any:
        """Ask; a retry first looks whether there is an answer already."""
        ti = context["ti"]
        if ti.try_number > 1:
            from rollback_budget.triggers.hitl_response import PriorAnswerTrigger

            self.defer(
                trigger=PriorAnswerTrigger(ti_id=str(ti.id), deferred_at=utc_now().isoformat()),
                method_name="execute_again",
                timeout=LONGEST_LOOK,
            )
        return self.ask(context)

    def execute_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Follow the answer that is there already, or ask; clearing a question takes no answer back."""
        answer = event["answer"]
        if answer is None:
            return self.ask(context)
        self.log.info("answered already")
        return self.execute_complete(context, answer)

    def ask(self, context: Context) -> Any:
        """Put the question, if there is one, and wait."""
        raise NotImplementedError

    def recorded(self, context: Context) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the answer that was given without Airflow, as its resume event; None when there is none."""
        return None

    def deadline_of(self, xcom: RolloutXcom) -> datetime:
        """Return when silence is the answer."""
        raise NotImplementedError

    def silence(self, xcom: RolloutXcom) -> str:
        """Return the option that silence chooses."""
        raise NotImplementedError

    def put(
        self, context: Context, key: RolloutKey, deadline: datetime, default: str, **further: Any
    ) -> None:
        """Put the question to Airflow, and defer until the commander answers or the deadline comes.

        :param further: what the :class:`ReviewTrigger` needs to request a rollback.
        """
        self.response_timeout = max(deadline - utc_now(), timedelta(seconds=1))
        try:
            super().execute(context)
        except TaskAwaitingInput:
            # Airflow would sweep such a task every 15 s, and it could not be closed before.
            now = utc_now()
            self.defer(
                trigger=ReviewTrigger(
                    ti_id=str(context["ti"].id),
                    deadline=deadline.isoformat(),
                    default=default,
                    dag_id=key.dag_id,
                    run_id=key.run_id,
                    deferred_at=now.isoformat(),
                    **further,
                ),
                method_name="execute_complete",
                timeout=max(deadline - now, timedelta(0)) + LATE,
            )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on where the task waited; an unavailable triggerer does not make the deadline pass unseen."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            answer = self.recorded(context)
            if answer is not None:
                return self.execute_complete(context, answer)
            xcom = RolloutXcom(self.tasks, context)
            if utc_now() < self.deadline_of(xcom):
                return self.ask(context)
            self.log.warning("no triggerer watched this question; its deadline is over")
            silence: dict[str, Any] = {
                "chosen_options": [self.silence(xcom)],
                "params_input": {},
                "responded_at": utc_now().isoformat(),
                "responded_by_user": None,
            }
            return self.execute_complete(context, silence)

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        """Leave it at what was read: a slip in a field must not fail the task at its deadline."""
