"""The buttons on a task's page: to the rollout's run and to its chart, under any base path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from rollback_budget import RollbackBudgetSensor, RolloutDag
from rollback_budget.common import config
from rollback_budget.links.rollout import ROLLOUT_LINKS, RolloutChartLink, RolloutRunLink
from rollback_budget.plugin import RollbackBudgetPlugin

pytestmark = pytest.mark.airflow

BUDGET = Path(__file__).resolve().parents[2] / "budgets" / "model-v42.yaml"
TI: Any = SimpleNamespace(dag_id="rollout", run_id="manual__2026-03-01T12:00:00+00:00", task_id="t")
RUN = "dags/rollout/runs/manual__2026-03-01T12%3A00%3A00%2B00%3A00"


@pytest.fixture
def task() -> Any:
    return RollbackBudgetSensor(task_id="t")


@pytest.mark.parametrize("base", ["https://airflow.example/team/a", "https://airflow.example/team/a/"])
def test_links_keep_the_base_path(base: str, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    monkeypatch.setattr(config, "can_draw", lambda: True)
    assert RolloutRunLink().get_link(task, ti_key=TI) == f"https://airflow.example/team/a/{RUN}"
    chart = f"https://airflow.example/team/a/rollback-budget/api/{RUN}/chart.svg"
    assert RolloutChartLink().get_link(task, ti_key=TI) == chart


def test_without_a_base_url_the_run_is_at_the_root(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")
    assert RolloutRunLink().get_link(task, ti_key=TI) == f"/{RUN}"


def test_there_is_no_button_for_a_chart_that_nothing_can_draw(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setattr(config, "can_draw", lambda: False)
    assert RolloutChartLink().get_link(task, ti_key=TI) == ""


def test_tasks_of_a_rollout_have_both_and_airflow_finds_them_when_it_has_stored_the_dag() -> None:
    dag = DagSerialization.from_dict(DagSerialization.to_dict(RolloutDag(budget=BUDGET)))
    for name in ("round_1.watch", "round_1.guard", "round_1.decide", "round_1.review", "rollback", "promote"):
        links = {link.name: link.xcom_key for link in dag.get_task(name).operator_extra_links}
        assert links == {
            "Rollout": "_link_RolloutRunLink",
            "Rollout chart": "_link_RolloutChartLink",
        }, name


def test_a_sensor_that_stands_alone_has_no_chart_to_link_to() -> None:
    with DAG("d", schedule=None):
        assert not RollbackBudgetSensor(task_id="t").operator_extra_links


def test_the_plugin_registers_them() -> None:
    assert tuple(RollbackBudgetPlugin.operator_extra_links) == ROLLOUT_LINKS
