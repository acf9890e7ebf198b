"""The eval-debt DAG: every breach becomes a debt, with a ticket that stays up to date and cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from rollback_budget.common.retries import unless_stated
from rollback_budget.operators.draft_cases import DraftCasesOperator
from rollback_budget.operators.eval_debt import FileDebtOperator, LogDebtOperator
from rollback_budget.operators.log_breach import BREACH

#: Catches up on breaches whose event was lost and on tickets that could not be filed.
SWEEP = "*/15 * * * *"
#: A ticket system that is unavailable is tried again for about 80 minutes; then the next run goes on.
TICKET_RETRIES: dict[str, Any] = {
    "retries": 20,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


def eval_debt_dag(dag_id: str = "eval_debt", **kwargs: Any) -> DAG:
    """Make the eval-debt DAG: it runs on every breach, and every quarter of an hour to catch up.

    :param kwargs: arguments of an Airflow DAG; they win over ours, ``default_args`` for ``retries``, too.
    """
    stated = kwargs.get("default_args")
    retries = unless_stated(stated, TICKET_RETRIES)
    few_retries = unless_stated(stated, {"retries": 2, "retry_delay": timedelta(seconds=30)})
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
        logged >> DraftCasesOperator(task_id="draft_cases", **few_retries)
    return dag
