"""The example DAGs are what they say: each parses, and Airflow can store it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

import rollback_budget.example_dags

pytestmark = pytest.mark.airflow

FOLDER = Path(rollback_budget.example_dags.__file__).parent
FILES = sorted(file.name for file in FOLDER.glob("example_*.py"))

#: What each file is about: a task of each DAG and what follows it.
DAGS: dict[str, dict[str, tuple[str, set[str]]]] = {
    "example_eval_debt.py": {
        "example_eval_debt": ("log_debt", {"file_debt", "draft_cases"}),
        "example_eval_debt_reconcile": ("log_debt", {"age_debt"}),
    },
    "example_rollout.py": {"example_rollout": ("ship", {"round_1.watch"})},
    "example_rollout_in_own_dag.py": {
        "example_rollout_in_own_dag": ("rollback_budget.verdict", {"undeploy"}),
    },
    "example_watch.py": {"example_watch": ("watch", {"decide"})},
}


def dags_in(file: str) -> dict[str, Any]:
    values = runpy.run_path(str(FOLDER / file)).values()
    found = [one if isinstance(one, DAG) else getattr(one, "dag", None) for one in values]
    return {dag.dag_id: dag for dag in found if isinstance(dag, DAG)}


def test_every_example_is_tested() -> None:
    assert list(DAGS) == FILES


@pytest.mark.parametrize("file", FILES)
def test_an_example_parses_and_airflow_can_store_it(file: str) -> None:
    dags = dags_in(file)
    assert dags.keys() == DAGS[file].keys()
    for dag_id, (task, after) in DAGS[file].items():
        assert json.dumps(DagSerialization.to_dict(dags[dag_id]))
        assert after <= dags[dag_id].get_task(task).downstream_task_ids


def test_the_budget_of_the_examples_is_complete_enough_to_ship() -> None:
    from rollback_budget.budget_file import load_budget, preflight_problems

    assert preflight_problems(load_budget(FOLDER / "model-v42.yaml")) == []
