"""The rollout as a DAG and as a task group, and the eval-debt DAGs."""
