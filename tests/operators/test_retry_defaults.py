"""Whose word on retries counts: the task's, then that of ``default_args``, then ours."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, TaskGroup

from rollback_budget import RollbackBudgetGroup, RolloutDag, eval_debt_dag, eval_debt_reconcile_dag
from rollback_budget.common.retries import (
    LEDGER_RETRIES,
    NOTIFICATION_RETRIES,
    QUICK_RETRIES,
    WATCH_RETRIES,
)
from rollback_budget.common.xcom import Tasks
from rollback_budget.operators.decide import DecideOperator
from rollback_budget.operators.log_breach import LogBreachOperator
from rollback_budget.operators.post_backlog import PostBacklogOperator
from rollback_budget.operators.rollback import RollbackOperator
from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor
from rollback_budget.sensors.rollout_round import WatchSensor

pytestmark = pytest.mark.airflow

BUDGET = Path(__file__).resolve().parents[2] / "budgets" / "model-v42.yaml"
THEIRS = {"retries": 1, "retry_delay": timedelta(minutes=7)}

OPERATORS: list[tuple[Any, dict[str, Any], Any]] = [
    (RollbackBudgetSensor, {}, WATCH_RETRIES),
    (WatchSensor, {"tasks": Tasks(), "round_": 1}, WATCH_RETRIES),
    (RollbackOperator, {"tasks": Tasks(), "rounds": 1}, QUICK_RETRIES),
    (DecideOperator, {"tasks": Tasks(), "round_": 1, "rounds": 1, "budget": "b"}, QUICK_RETRIES),
    (LogBreachOperator, {"tasks": Tasks(), "round_": 1}, LEDGER_RETRIES),
    (PostBacklogOperator, {}, NOTIFICATION_RETRIES),
]


def retries_of(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in ("retries", "retry_delay")}


@pytest.mark.parametrize(("kind", "arguments", "ours"), OPERATORS)
def test_ours_hold_when_the_user_sets_no_others(kind: Any, arguments: dict[str, Any], ours: Any) -> None:
    with DAG("d", schedule=None, default_args={"owner": "casey"}):
        task = kind(task_id="t", **arguments)
    assert {name: getattr(task, name) for name in ours} == {**ours}
    assert task.owner == "casey"


@pytest.mark.parametrize(("kind", "arguments", "ours"), OPERATORS)
def test_default_args_win_over_ours(kind: Any, arguments: dict[str, Any], ours: Any) -> None:
    with DAG("d", schedule=None, default_args=THEIRS):
        task = kind(task_id="t", **arguments)
    assert retries_of(task) == THEIRS
    for name in ours.keys() - THEIRS.keys():
        assert getattr(task, name) == ours[name]


@pytest.mark.parametrize(("kind", "arguments", "ours"), OPERATORS)
def test_the_tasks_own_arguments_win_over_default_args(
    kind: Any, arguments: dict[str, Any], ours: Any
) -> None:
    with DAG("d", schedule=None, default_args=THEIRS):
        task = kind(task_id="t", retries=5, **arguments)
    assert retries_of(task) == {**THEIRS, "retries": 5}


def test_default_args_of_a_task_group_win_too() -> None:
    with DAG("d", schedule=None), TaskGroup("g", default_args=THEIRS):
        task = RollbackBudgetSensor(task_id="t")
    assert retries_of(task) == THEIRS


def tasks_of(dag: Any) -> dict[str, BaseOperator]:
    """Return our tasks of a DAG; the empty ones that join branches are Airflow's."""
    tasks = dag.task_dict.items()
    return {name: task for name, task in tasks if type(task).__module__.startswith("rollback_budget.")}


def test_a_rollout_takes_default_args_for_every_task_of_it() -> None:
    whole = RolloutDag(budget=BUDGET, default_args=THEIRS)
    with DAG("team", schedule=None, default_args=THEIRS) as team:
        RollbackBudgetGroup(budget=BUDGET)
    for dag in (whole, team):
        assert len(tasks_of(dag)) > 10
        assert {name: retries_of(task) for name, task in tasks_of(dag).items()} == dict.fromkeys(
            tasks_of(dag), THEIRS
        )


def test_a_rollout_without_settings_retries_for_long() -> None:
    dag = RolloutDag(budget=BUDGET)
    retries = {name: task.retries for name, task in tasks_of(dag).items()}
    assert retries["preflight"] == retries["rollback"] == retries["promote"] == 3
    assert retries["round_1.watch"] == retries["round_1.guard"] == retries["round_1.review"] == 10
    assert retries["record_rollback"] == retries["round_1.log_breach"] == 60
    assert retries["announce_rollback"] == retries["round_1.announce"] == 3


@pytest.mark.parametrize("make", [eval_debt_dag, eval_debt_reconcile_dag])
def test_the_dags_of_eval_debt_take_default_args_for_every_task(make: Any) -> None:
    assert {retries_of(task)["retries"] for task in tasks_of(make(default_args=THEIRS)).values()} == {1}
    assert make().get_task("file_debt").retries == 20
