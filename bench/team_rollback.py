"""What is done without a rollback that leaves from the trigger: a task behind the sensor, in one Airflow.

The watch is ours in both. Here the baseline comes back by a team's own operator, an ``HttpOperator`` in the
default pool, behind the tasks that every such rollback has.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.stack.airflow_harness import BASELINE, RELEASE, Scenario

PREFIX = "team_"
DAGS = f"""
import json

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import get_parsing_context

from rollback_budget import RolloutDag
from rollback_budget.common.config import budgets_folder

only = get_parsing_context().dag_id
for budget in sorted(budgets_folder().glob("{PREFIX}*.yaml")):
    dag_id = f"by_{{budget.stem}}"
    if only in (None, dag_id):
        globals()[dag_id] = RolloutDag(
            budget=budget,
            dag_id=dag_id,
            rollback=HttpOperator(
                task_id="put_back",
                http_conn_id=f"router_{{budget.stem}}",
                endpoint="control/traffic",
                method="PUT",
                headers={{"Content-Type": "application/json"}},
                data=json.dumps({{"weights": {{"{RELEASE}": 0, "{BASELINE}": 1}}}}),
            ),
        )
"""


@dataclass(frozen=True)
class TeamRollback(Scenario):
    """A rollout whose baseline comes back by a task."""

    @property
    def dag_id(self) -> str:
        return f"by_{self.name}"
