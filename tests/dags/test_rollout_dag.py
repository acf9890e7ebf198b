"""DAGs from budget files: their shape, and what becomes of hostile names and broken files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from rollback_budget import RollbackBudgetGroup
from rollback_budget.dags.rollout import RolloutDag, rollout_dags

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "{{ ti.xcom_pull() }} \"</script>\n'; DROP TABLE rollouts; -- | **bold** [x](http://x) `"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "budgets", tmp_path / "budgets"))


def test_the_shipped_budgets_become_dags_that_airflow_can_store(folder: Path) -> None:
    [dag] = rollout_dags(folder)
    assert dag.dag_id == "rollout_model-v42"
    stored = DagSerialization.to_dict(dag)
    assert json.dumps(stored)
    edges = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert edges["preflight"] == {"launch_gate"}
    assert edges["launch_gate"] == {"ship"}
    assert edges["ship"] == {"round_1.watch"}
    assert edges["round_1.review"] == {"round_1.overruled", "round_1.accepted", "round_2.watch"}
    assert {"rollback", "round_1.log_guard_breach"} == edges["round_1.guard"]
    assert "round_3.review" not in edges
    assert edges["rollback"] == {"record_rollback", "announce_rollback"}


def test_neither_the_rollback_nor_the_log_waits_for_the_other(folder: Path) -> None:
    [dag] = rollout_dags(folder)
    before_rollback = dag.get_task("rollback").get_flat_relative_ids(upstream=True)
    assert not {name for name in before_rollback if "log" in name}
    for name in ("round_1.log_breach", "round_1.log_guard_breach"):
        assert "rollback" not in dag.get_task(name).get_flat_relative_ids(upstream=True)


def test_a_worker_builds_just_its_own_dag(folder: Path) -> None:
    shutil.copy(folder / "model-v42.yaml", folder / "other.yaml")
    assert [dag.dag_id for dag in rollout_dags(folder, only="rollout_other")] == ["rollout_other"]


def test_a_broken_budget_breaks_only_its_own_dag(folder: Path) -> None:
    (folder / "broken.yaml").write_text("release: [")
    broken, fine = sorted(rollout_dags(folder), key=lambda dag: dag.dag_id)
    assert "broken-budget" in broken.tags
    assert "broken.yaml:2:1: not valid YAML" in (broken.doc_md or "")
    assert len(fine.tasks) > 20


def test_names_with_templates_quotes_and_sql_in_them_are_data(folder: Path) -> None:
    document = {
        "release": HOSTILE,
        "baseline": "v1",
        "window": "1h",
        "rollback_budget": {"a": {"x_above": 1}},
    }
    document["rollback_budget"] = {"a": {"x_above": 1, "max_duration": "5m"}}
    (folder / "{{ evil }}.yaml").write_text(json.dumps(document))
    dags = {dag.dag_id: dag for dag in rollout_dags(folder)}
    [dag] = [dag for dag_id, dag in dags.items() if "evil" in dag_id]
    assert json.dumps(DagSerialization.to_dict(dag))
    assert all("{{" not in task.task_id for task in dag.tasks)


def test_nothing_of_a_review_is_a_template(folder: Path) -> None:
    [dag] = rollout_dags(folder)
    assert not dag.get_task("round_1.review").template_fields
    assert not dag.get_task("launch_gate").template_fields


def test_a_team_wraps_its_own_deploy_tasks(folder: Path) -> None:
    from airflow.providers.standard.operators.empty import EmptyOperator

    with DAG("team", schedule=None) as dag:
        RollbackBudgetGroup(
            budget=folder / "model-v42.yaml",
            ship=EmptyOperator(task_id="deploy"),
            rollback=EmptyOperator(task_id="undo"),
            promote=EmptyOperator(task_id="done"),
        )
    assert dag.get_task("deploy").upstream_task_ids == {"rollback_budget.launch_gate"}
    assert dag.get_task("deploy").downstream_task_ids == {"rollback_budget.ship"}
    assert dag.get_task("undo").upstream_task_ids == {"rollback_budget.verdict"}
    assert "rollback_budget.round_1.breached" in dag.get_task("rollback_budget.verdict").upstream_task_ids
    assert dag.get_task("undo").downstream_task_ids == {"rollback_budget.rollback"}
    assert dag.get_task("done").upstream_task_ids == {"rollback_budget.promote"}


def test_a_dag_of_ones_own_takes_airflows_arguments(folder: Path) -> None:
    dag = RolloutDag(budget=folder / "model-v42.yaml", dag_id="mine", tags=["team"], max_active_runs=3)
    assert (dag.dag_id, dag.tags, dag.max_active_runs) == ("mine", {"team"}, 3)


def test_preflight_refuses_a_budget_without_owner_and_commander(folder: Path) -> None:
    (folder / "defaults.yaml").unlink()
    [dag] = rollout_dags(folder)
    with pytest.raises(AirflowFailException) as caught:
        dag.get_task("preflight").execute({})
    for missing in ("owner", "incident_commander", "source", "target"):
        assert missing in str(caught.value)


def test_parsing_loads_nothing_heavy() -> None:
    heavy = ["great_expectations", "pandas", "numpy", "altair", "pyarrow", "alembic"]
    code = (
        "import sys, rollback_budget.dags.rollout, rollback_budget.dags.eval_debt\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_preflight_wants_to_know_how_to_move_traffic_that_no_team_moves(folder: Path) -> None:
    defaults = (folder / "defaults.yaml").read_text()
    (folder / "defaults.yaml").write_text(defaults[: defaults.index("  write:")])
    [dag] = rollout_dags(folder)
    with pytest.raises(AirflowFailException, match=r"target\.write is missing"):
        dag.get_task("preflight").execute({})
