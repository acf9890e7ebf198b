"""How the sensor takes its arguments: templates, Airflow's defaults, and mapping."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from rollback_budget import RollbackBudgetGroup, RollbackBudgetSensor, RolloutDag
from rollback_budget.exceptions import RollbackBudgetError

pytestmark = pytest.mark.airflow

BUDGETS = Path(__file__).resolve().parents[2] / "budgets"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rendered(sensor: RollbackBudgetSensor, **context: Any) -> RollbackBudgetSensor:
    whole: Any = {"params": {}, "dag_run": SimpleNamespace(start_date=NOON, conf={}), **context}
    sensor.render_template_fields(whole)
    return sensor


def test_budget_and_window_start_are_templates() -> None:
    with DAG("d", schedule=None):
        sensor = RollbackBudgetSensor(
            task_id="watch",
            budget=f"{BUDGETS}/{{{{ params.release }}}}.yaml",
            window_start="{{ dag_run.conf['shipped_at'] }}",
        )
    run = SimpleNamespace(start_date=NOON, conf={"shipped_at": "2026-03-01T09:30:00+01:00"})
    plan = rendered(sensor, params={"release": "model-v42"}, dag_run=run).plan({"dag_run": run})  # type: ignore[typeddict-item]
    assert plan.spec.release == "model-v42"
    assert plan.window_start == datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
    assert plan.window_end == plan.window_start + timedelta(hours=24)


@pytest.mark.parametrize("budget", [BUDGETS / "model-v42.yaml", f"{BUDGETS}/model-v42.yaml"])
def test_a_plain_path_stays_what_it_is(budget: Any) -> None:
    sensor = rendered(RollbackBudgetSensor(task_id="watch", budget=budget))
    assert sensor.budget == f"{BUDGETS}/model-v42.yaml"
    run: Any = {"dag_run": SimpleNamespace(start_date=NOON)}
    assert sensor.plan(run).window_start == NOON


def test_a_sensor_without_a_budget_says_what_it_needs() -> None:
    sensor = rendered(RollbackBudgetSensor(task_id="watch"))
    with pytest.raises(RollbackBudgetError, match="needs budget="):
        sensor.plan({})  # type: ignore[typeddict-item]


def test_one_sensor_is_mapped_over_many_budgets() -> None:
    with DAG("d", schedule=None):
        mapped = RollbackBudgetSensor.partial(task_id="watch", deferrable=True).expand(
            budget=[f"{BUDGETS}/{{{{ params.release }}}}.yaml", f"{BUDGETS}/other.yaml"]
        )
    context: Any = {"params": {"release": "model-v42"}, "dag_run": SimpleNamespace(start_date=NOON)}
    sensor = mapped.unmap({"budget": f"{BUDGETS}/{{{{ params.release }}}}.yaml"})
    assert isinstance(sensor, RollbackBudgetSensor)
    sensor.render_template_fields(context)
    assert sensor.budget == f"{BUDGETS}/model-v42.yaml"
    assert sensor.deferrable


def test_the_output_of_another_task_may_be_the_budget() -> None:
    from airflow.sdk import task

    with DAG("d", schedule=None) as dag:

        @task
        def write_budget() -> str:
            return "b.yaml"

        RollbackBudgetSensor(task_id="watch", budget=write_budget())  # type: ignore[arg-type]
    assert dag.get_task("watch").upstream_task_ids == {"write_budget"}


@pytest.mark.parametrize("said", ["True", "False", None])
def test_the_sensor_alone_waits_where_airflow_says_and_a_rollout_in_the_triggerer(
    said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The default is read when the class is made, as in Airflow's providers: in a process of its own.
    if said is not None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", said)
    code = (
        "from rollback_budget import RollbackBudgetSensor, RolloutDag\n"
        f"watch = RolloutDag(budget={str(BUDGETS / 'model-v42.yaml')!r}).get_task('round_1.watch')\n"
        "print(RollbackBudgetSensor(task_id='alone').deferrable, watch.deferrable)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{said == 'True'} True"


def test_a_user_who_wants_a_rollout_watched_in_workers_says_so_in_default_args() -> None:
    whole = RolloutDag(budget=BUDGETS / "model-v42.yaml", default_args={"deferrable": False})
    with DAG("team", schedule=None, default_args={"deferrable": False}) as team:
        RollbackBudgetGroup(budget=BUDGETS / "model-v42.yaml")
    assert not whole.get_task("round_1.watch").deferrable
    assert not team.get_task("rollback_budget.round_1.guard").deferrable
