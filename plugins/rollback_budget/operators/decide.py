"""Where a verdict leads: the branch after each watch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseBranchOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.ledger_answer import recorded_deadline
from rollback_budget.common.ledger_sync import final_if_known, nothing_left
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import QUICK_RETRIES
from rollback_budget.common.xcom import DEADLINE_KEY, RolloutXcom, Tasks
from rollback_budget.engine.decision_policy import NextStep, next_step
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.exceptions import SpecError
from rollback_budget.links.rollout import ROLLOUT_LINKS

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.model.spec import RolloutSpec


class DecideOperator(BaseBranchOperator):
    """
    Obeys the rule of the budget: promote, roll back, or ask the incident commander.

    A watch that failed gave no verdict; that counts as blind. A rollout that has ended leads nowhere.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.
    :param rounds: how many rounds the rollout has.
    :param budget: path of the budget file, to say when it was edited meanwhile.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#fff7e0"

    def __init__(self, *, tasks: Tasks, round_: int, rounds: int, budget: str | Path, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.tasks = tasks
        self.round_ = round_
        self.rounds = rounds
        self.budget = str(budget)

    def choose_branch(self, context: Context) -> str | Iterable[str] | None:
        """Return the tasks that follow."""
        xcom = RolloutXcom(self.tasks, context)
        if xcom.shipment() is None:
            if self.round_ > 1:
                raise AirflowSkipException("nothing was shipped")
            raise AirflowFailException("nothing was shipped, so nothing is decided; see the tasks before")
        over = nothing_left(xcom.key, self.log)
        if over is not None:
            self.log.info("this rollout has ended: %s", over)
            return None
        spec = xcom.spec()
        self._report_edit(spec)
        evaluation = xcom.evaluation(self.round_)
        step = next_step(spec, evaluation, round_=self.round_, rounds=self.rounds)
        final = final_if_known(xcom.key, self.log)
        if final is not None:
            self.log.info("rolled back already, which the rollback task verifies: %s", final)
            step = NextStep.ROLL_BACK
        self.log.info(
            "%s, so: %s",
            "the watch gave no verdict" if evaluation is None else evaluation.sentence,
            step.value,
        )
        names = {
            NextStep.PROMOTE: ["kept"],
            NextStep.ROLL_BACK: ["breached"],
            NextStep.ASK: ["review", "guard"],
        }[step]
        if step is NextStep.ASK:
            # The deadline that the trigger set, and that the commander was told.
            deadline = (
                xcom.asked_until(self.round_)
                or recorded_deadline(xcom.key, self.round_, self.log)
                or utc_now() + review_terms(spec, evaluation).within
            )
            context["ti"].xcom_push(key=DEADLINE_KEY, value=deadline.isoformat())
        if evaluation is not None and evaluation.breaches:
            names.append("log_breach")
        if step is not NextStep.PROMOTE or "log_breach" in names:
            names.append("announce")
        return [self.tasks.in_round(self.round_, name) for name in names]

    def _report_edit(self, spec: RolloutSpec) -> None:
        from rollback_budget.budget_file import load_budget

        try:
            edited = load_budget(Path(self.budget)).sha256 != spec.sha256
        except SpecError:
            edited = True
        if edited:
            self.log.warning(
                "%s was edited during this rollout, which keeps the budget it began with", self.budget
            )
