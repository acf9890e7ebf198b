"""Giving the release the rest of the traffic at the end, unless the rollout was rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.ledger_sync import sync_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import QUICK_RETRIES
from rollback_budget.common.xcom import REPORT_KEY, RolloutXcom, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.model.choice import RULE
from rollback_budget.operators.ship import apply_shares
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.shares import shares_left

if TYPE_CHECKING:
    from airflow.sdk import Context


class PromoteOperator(BaseOperator):
    """
    Takes the final decision "promoted" and gives the release all traffic.

    Without the ledger nothing is promoted: a rollout that was rolled back stays so.

    :param tasks: the task ids of the rollout.
    :param rounds: how many rounds the rollout has.
    :param send: False when a team's own operators move the traffic.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#e6f4ea"

    def __init__(self, *, tasks: Tasks, rounds: int, send: bool = True, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.tasks = tasks
        self.rounds = rounds
        self.send = send

    def execute(self, context: Context) -> None:
        """Promote, unless the ledger says that this rollout was rolled back."""
        from rollback_budget.ledger.views import FinalDecision

        xcom = RolloutXcom(self.tasks, context)
        spec = xcom.spec()
        shipment = xcom.shipment()
        assert shipment is not None
        ledger = open_ledger()
        by, reason = author_of_promotion(xcom, self.rounds)
        final = ledger.final_decisions.take(xcom.key, FinalDecision.PROMOTED, by, reason, utc_now())
        if final.decision is not FinalDecision.PROMOTED:
            raise AirflowSkipException(f"not promoted, this rollout has ended already: {final}")
        sync_ledger(ledger, xcom, self.rounds)
        if not self.send:
            return
        report = apply_shares(
            spec,
            {spec.release: 1.0, spec.baseline: 0.0},
            shares_left(spec, shipment.shares),
            f"{xcom.key}/promote",
            self.log.info,
        )
        context["ti"].xcom_push(key=REPORT_KEY, value=str(report))
        if report.outcome is Outcome.SUPERSEDED:
            self.log.warning("%s", report)
        elif report.outcome is not Outcome.EFFECTIVE:
            raise AirflowException(f"{spec.release} was not promoted: {report}")


def author_of_promotion(xcom: RolloutXcom, rounds: int) -> tuple[str, str]:
    """Return the commander who said "promote now" with their reason, or the rule."""
    answers = xcom.answers(before=rounds + 1)
    if answers and answers[-1].promote:
        return answers[-1].author, answers[-1].reason or "promoted before the window was over"
    return RULE, "the window is over, its budgets kept"
