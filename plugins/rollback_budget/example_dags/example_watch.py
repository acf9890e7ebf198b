"""The watch alone, for a team that ships and decides by itself: its XCom value is the verdict."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from rollback_budget import RollbackBudgetSensor

BUDGETS = Path(__file__).parent

with DAG(
    "example_watch",
    schedule=None,
    params={"release": Param("model-v42", type="string", pattern=r"^[\w.-]+$")},
    tags=["example", "rollback-budget"],
):
    watch = RollbackBudgetSensor(
        task_id="watch",
        budget=f"{BUDGETS}/{{{{ params.release }}}}.yaml",
        window_start="{{ dag_run.start_date.isoformat() }}",
        deferrable=True,
        retry_delay=timedelta(seconds=10),
    )

    @task
    def decide(evaluation: Any) -> str:
        """Return ``healthy``, ``breach`` or ``blind``; the breaches stand beside it."""
        return str(evaluation["verdict"])

    decide(watch.output)
