"""Before shipping, what can keep a team's own rollback waiting in Airflow's queues is said, with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from rollback_budget import RollbackBudgetGroup, RolloutDag
from rollback_budget.common.priority import PRIORITY
from rollback_budget.common.xcom import Tasks
from rollback_budget.operators.queue_warnings import queue_warnings

pytestmark = pytest.mark.airflow

BUDGET = Path(__file__).resolve().parents[2] / "budgets" / "model-v42.yaml"
GOOD: dict[str, Any] = {
    "pool": "rollback_budget",
    "priority_weight": PRIORITY,
    "weight_rule": "absolute",
}


def warnings_of(dag: DAG) -> list[str]:
    return queue_warnings(dag, Tasks())


def test_where_the_trigger_requests_the_rollback_nothing_is_said() -> None:
    assert warnings_of(RolloutDag(budget=BUDGET)) == []
    assert queue_warnings(None, Tasks()) == []


def test_a_shared_pool_and_a_low_priority_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "6")
    dag = RolloutDag(budget=BUDGET, rollback=EmptyOperator(task_id="argo_undo"))
    pool, priority, parallelism = warnings_of(dag)
    assert pool == (
        "argo_undo runs in the pool default_pool, 128 slots unless that was changed, which it shares: when"
        " that is full, the rollback waits for the first task in it to end. Write pool='rollback_budget' for"
        " it"
    )
    assert priority == (
        "argo_undo has priority_weight=1: tasks that wait with a higher one start before it. Write"
        f" priority_weight={PRIORITY}, weight_rule='absolute' for it"
    )
    assert parallelism.startswith(
        "argo_undo put the baseline back as tasks, and [core] parallelism is 6 here"
    )


def test_of_a_rollback_in_our_pool_only_what_all_tasks_share_is_said() -> None:
    [line] = warnings_of(RolloutDag(budget=BUDGET, rollback=EmptyOperator(task_id="argo_undo", **GOOD)))
    assert "[core] parallelism" in line


def test_a_dag_whose_other_tasks_can_take_all_is_named() -> None:
    with DAG("team", schedule=None, max_active_tasks=3) as dag:
        RollbackBudgetGroup(budget=BUDGET, rollback=EmptyOperator(task_id="argo_undo", **GOOD))
    found = queue_warnings(dag, Tasks("rollback_budget."))
    assert found[0].startswith("team has max_active_tasks=3, and ")
    assert "Raise max_active_tasks" in found[0]


def test_the_tasks_of_a_rollout_have_a_pool_and_a_priority_of_their_own() -> None:
    dag = RolloutDag(budget=BUDGET)
    ours = [task for task in dag.tasks if type(task).__module__.startswith("rollback_budget.")]
    assert len(ours) > 10
    assert {(task.pool, task.priority_weight) for task in ours} == {("rollback_budget", PRIORITY)}
    assert {str(task.weight_rule) for task in ours} == {"absolute"}


def test_what_a_team_writes_in_default_args_wins() -> None:
    dag = RolloutDag(budget=BUDGET, default_args={"pool": "theirs", "priority_weight": 7})
    assert {(task.pool, task.priority_weight) for task in dag.tasks} == {("theirs", 7)}
    assert dag.get_task("rollback").pool == "theirs"


def test_the_pool_can_be_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__POOL", "release_engineering")
    assert RolloutDag(budget=BUDGET).get_task("rollback").pool == "release_engineering"


def test_our_own_tasks_that_the_defaults_of_a_dag_put_into_another_pool_are_named() -> None:
    with DAG("team", schedule=None, default_args={"pool": "etl"}) as dag:
        RollbackBudgetGroup(budget=BUDGET, rollback=EmptyOperator(task_id="argo_undo", **GOOD))
    said = "\n".join(queue_warnings(dag, Tasks("rollback_budget.")))
    for task in ("round_1.decide", "round_1.review", "verdict"):
        assert f"{task} runs in the pool etl" in said


def test_a_callback_for_all_tasks_makes_no_join_a_task_that_has_to_run() -> None:
    with DAG("team", schedule=None, default_args={"on_success_callback": print}) as dag:
        RollbackBudgetGroup(budget=BUDGET, rollback=EmptyOperator(task_id="argo_undo", **GOOD))
    joins = [task for task in dag.tasks if task.task_id.endswith((".breached", ".overruled"))]
    assert joins
    assert not any(task.has_on_success_callback for task in joins)
