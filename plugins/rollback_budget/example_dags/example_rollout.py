"""A rollout as a DAG of its own: one run ships the release, watches it, and promotes or rolls back."""

from pathlib import Path

from rollback_budget import RolloutDag

BUDGET = Path(__file__).with_name("model-v42.yaml")

dag = RolloutDag(budget=BUDGET, dag_id="example_rollout", tags=["example", "rollback-budget"])
