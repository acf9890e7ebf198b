"""The eval-debt DAG: every breach becomes a debt, with a ticket that stays up to date and cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, AssetOrTimeSchedule, BaseOperator, CronTriggerTimetable

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.operators.draft_cases import DraftCasesOperator
from rollback_budget.operators.log_breach import BREACH
from rollback_budget.operators.ticket import TicketOperator, open_tracker

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Catches up on breaches whose event was lost and on tickets that could not be filed.
SWEEP = "*/15 * * * *"


class LogDebtOperator(BaseOperator):
    """
    Logs the eval debt of every breach that has none yet: those of the triggering events, and any left over.
    """

    ui_color = "#e8e8f8"

    def execute(self, context: Context) -> list[str]:
        """Return what each new breach did; a breach is counted once, however often it is announced."""
        from rollback_budget.debt.log import log_debts

        events = [
            event for group in (context.get("triggering_asset_events") or {}).values() for event in group
        ]
        self.log.info("%d breach event(s)", len(events))
        changes = log_debts(open_ledger(), None, utc_now())
        for change in changes:
            self.log.info("%s: %s (%s)", change.kind.value, change.debt.budget, change.debt.fingerprint)
        return [change.debt.fingerprint for change in changes]


class FileDebtOperator(TicketOperator):
    """
    Files every eval debt that has no ticket yet, in Jira or in the local backlog, and tells tickets the news.

    A tracker that is down fails this task; nothing is lost, the next try and the next run catch up.
    """

    def work(self, context: Context) -> list[str]:
        """Return what was filed and told now. One task, because the last one's state is that of the run."""
        from rollback_budget.tickets.sync.errors import Attempts
        from rollback_budget.tickets.sync.filing import file_debts
        from rollback_budget.tickets.sync.sync import tell_tickets

        ti = context["ti"]
        owner = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.try_number}"
        ledger, tracker = open_ledger(), open_tracker()
        attempts = Attempts()
        done = [
            *attempts.do(lambda: file_debts(ledger, tracker, utc_now(), owner)),
            *attempts.do(lambda: tell_tickets(ledger, tracker, utc_now())),
        ]
        for one in done:
            self.log.info("%s", one)
        attempts.raise_all()
        return [str(one) for one in done]


def eval_debt_dag(dag_id: str = "eval_debt", **kwargs: Any) -> DAG:
    """Make the eval-debt DAG: it runs on every breach, and every quarter of an hour to catch up."""
    retries: dict[str, Any] = {
        "retries": 20,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
    }
    schedule = AssetOrTimeSchedule(timetable=CronTriggerTimetable(SWEEP, timezone="UTC"), assets=[BREACH])
    defaults: dict[str, Any] = {
        "schedule": schedule,
        "start_date": datetime(2024, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["rollback-budget"],
    }
    dag = DAG(dag_id=dag_id, **{**defaults, **kwargs})
    with dag:
        logged = LogDebtOperator(task_id="log_debt", **retries)
        logged >> FileDebtOperator(task_id="file_debt", **retries)
        # Beside the filing, never before it; few tries, because the next run drafts what is left.
        logged >> DraftCasesOperator(task_id="draft_cases", retries=2, retry_delay=timedelta(seconds=30))
    return dag
