"""Logging a breach, beside the rollback: neither waits for the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.ledger_refusal import fail_when_refused
from rollback_budget.common.ledger_sync import sync_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import LEDGER_RETRIES
from rollback_budget.common.xcom import RolloutXcom, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Updated by every logged breach; the eval-debt DAG is scheduled on it. For a URI with a scheme Airflow would
#: look through every provider, at every parse.
BREACH = Asset(name="rollback_budget.breach", group="rollback_budget")


class LogBreachOperator(BaseOperator):
    """
    Writes a round's breaches into the ledger and emits the asset event ``rollback_budget.breach``.

    :param tasks: the task ids of the rollout.
    :param round_: counted from 1.
    :param task: whose verdict is logged, ``watch`` or ``guard``.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#e8e8f8"

    def __init__(self, *, tasks: Tasks, round_: int, task: str = "watch", **kwargs: Any) -> None:
        theirs = kwargs.pop("outlets", None) or (kwargs.get("default_args") or {}).get("outlets") or ()
        super().__init__(outlets=[BREACH, *theirs], **rollout_task(kwargs, LEDGER_RETRIES))
        self.tasks = tasks
        self.round_ = round_
        self.task = task

    def execute(self, context: Context) -> list[str]:
        """Return the fingerprints of the breaches; logging one again changes nothing."""
        xcom = RolloutXcom(self.tasks, context)
        evaluation = xcom.evaluation(self.round_, self.task)
        assert evaluation is not None
        ledger = open_ledger()
        with fail_when_refused():
            sync_ledger(ledger, xcom, self.round_)
            fingerprints = ledger.breaches.log(xcom.key, evaluation.breaches, utc_now())
        context["outlet_events"][BREACH].extra = {
            "dag_id": xcom.key.dag_id,
            "run_id": xcom.key.run_id,
            "breaches": list(fingerprints),
        }
        return fingerprints
