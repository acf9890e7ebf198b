"""The daily DAG of eval debt: ledger and tickets agree, debts age, owners are notified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable

from rollback_budget.common.retries import unless_stated
from rollback_budget.operators.eval_debt import AgeDebtOperator, FileDebtOperator, LogDebtOperator
from rollback_budget.operators.post_backlog import PostBacklogOperator

#: Before people begin to work, in most of Europe and Asia.
DAILY = "30 4 * * *"
#: A ticket system that is unavailable is tried again for about four hours; then the next run goes on.
TICKET_RETRIES: dict[str, Any] = {
    "retries": 20,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}


def eval_debt_reconcile_dag(dag_id: str = "eval_debt_reconcile", **kwargs: Any) -> DAG:
    """Make the daily DAG of eval debt: count what was missed, age, reconcile the tickets, post the backlog.

    Ageing and posting do not wait for the ticket system; what that could not take is done by the next run.

    :param kwargs: arguments of an Airflow DAG; they win over ours, ``default_args`` for ``retries``, too.
    """
    retries = unless_stated(kwargs.get("default_args"), TICKET_RETRIES)
    defaults: dict[str, Any] = {
        "schedule": CronTriggerTimetable(DAILY, timezone="UTC"),
        "start_date": datetime(2024, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["rollback-budget"],
    }
    dag = DAG(dag_id=dag_id, **{**defaults, **kwargs})
    with dag:
        log_debt = LogDebtOperator(task_id="log_debt", **retries)
        age_debt = AgeDebtOperator(task_id="age_debt", **retries)
        file_debt = FileDebtOperator(task_id="file_debt", **retries)
        log_debt >> age_debt >> [file_debt, PostBacklogOperator(task_id="post_backlog")]
    return dag
