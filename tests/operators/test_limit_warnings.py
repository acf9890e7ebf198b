"""Before shipping, a limit of Airflow's that would end the watch too early is said with its remedy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from rollback_budget import RollbackBudgetGroup, RolloutDag
from rollback_budget.budget_file import load_budget
from rollback_budget.common.xcom import Tasks
from rollback_budget.operators.preflight import limit_warnings

pytestmark = pytest.mark.airflow

BUDGET = Path(__file__).resolve().parents[2] / "budgets" / "model-v42.yaml"
HOUR = timedelta(hours=1)


def warnings_of(dag: DAG, prefix: str = "") -> list[str]:
    return limit_warnings(load_budget(BUDGET), dag, Tasks(prefix))


def test_nothing_is_said_of_a_rollout_that_may_take_its_time() -> None:
    assert warnings_of(RolloutDag(budget=BUDGET)) == []
    long: Any = {"execution_timeout": 25 * HOUR}
    assert warnings_of(RolloutDag(budget=BUDGET, default_args=long, dagrun_timeout=30 * HOUR)) == []
    assert limit_warnings(load_budget(BUDGET), None, Tasks()) == []


def test_a_short_execution_timeout_is_named_with_the_window_and_the_remedy() -> None:
    dag = RolloutDag(budget=BUDGET, default_args={"execution_timeout": HOUR})
    first, *others = warnings_of(dag)
    assert first == (
        "round_1.watch has execution_timeout=1 h, but the window is 24 h: Airflow fails the watch after 1 h,"
        " and a failed watch counts as blind. Remove execution_timeout (look into default_args, too) or set"
        " it to at least 24 h 2 min 30 s"
    )
    assert [line.split()[0] for line in others] == ["round_2.watch", "round_3.watch"]


def test_a_short_dagrun_timeout_is_named_with_the_window_and_the_remedy() -> None:
    with DAG("team", schedule=None, dagrun_timeout=2 * HOUR) as dag:
        RollbackBudgetGroup(budget=BUDGET)
    [line] = warnings_of(dag, "rollback_budget.")
    assert line == (
        "team has dagrun_timeout=2 h, but the window is 24 h: Airflow fails the run after 2 h, and then"
        " nothing rolls back. Remove dagrun_timeout or set it to more than 24 h 2 min 30 s"
    )


def test_too_few_retries_of_the_watch_are_named_with_the_remedy() -> None:
    first, *others = warnings_of(RolloutDag(budget=BUDGET, default_args={"retries": 1}))
    assert first == (
        "round_1.watch has retries=1: a restart of a scheduler or a triggerer can cost one, and a failed"
        " watch counts as blind. Set retries to at least 2 (look into default_args, too)"
    )
    assert [line.split()[0] for line in others[:2]] == ["round_2.watch", "round_3.watch"]
    assert warnings_of(RolloutDag(budget=BUDGET, default_args={"retries": 2})) == []


def test_a_sensors_own_timeout_counts_only_where_it_pokes() -> None:
    short = {"timeout": HOUR.total_seconds()}
    assert warnings_of(RolloutDag(budget=BUDGET, default_args=short)) == []
    poking = RolloutDag(budget=BUDGET, default_args={**short, "deferrable": False})
    assert warnings_of(poking)[0].startswith("round_1.watch has timeout=1 h, but the window is 24 h")


def test_retries_that_can_cost_a_rollback_are_named_with_their_tasks_and_the_remedy() -> None:
    careless: Any = {"retries": 1, "retry_delay": timedelta(minutes=5)}
    lines = warnings_of(RolloutDag(budget=BUDGET, default_args=careless))
    few, slow = lines[-2:]
    assert few.startswith("round_1.guard, round_1.decide, round_1.review, ")
    assert few.endswith(
        "rollback and record_rollback have fewer than 2 retries: a restart of a scheduler or a worker can"
        " cost one, and then nothing rolls back. Set retries to at least 2 (look into default_args, too)"
    )
    assert slow.endswith(
        "have a retry_delay of up to 5 min: after a failed try a rollback waits that long. Set retry_delay to"
        " seconds (look into default_args, too)"
    )
