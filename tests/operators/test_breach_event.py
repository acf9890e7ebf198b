"""The asset event of a breach is emitted whatever outlets a team has for its own tasks."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, Asset

from rollback_budget.common.xcom import Tasks
from rollback_budget.operators.log_breach import BREACH, LogBreachOperator

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("where", ["default_args", "argument"])
def test_outlets_of_a_team_stand_beside_the_event_of_a_breach(where: str) -> None:
    own = Asset(name="own")
    with DAG("team", schedule=None, default_args={"outlets": [own]} if where == "default_args" else {}):
        given = {"outlets": [own]} if where == "argument" else {}
        task = LogBreachOperator(task_id="log_breach", tasks=Tasks(), round_=1, **given)
    assert task.outlets == [BREACH, own]
