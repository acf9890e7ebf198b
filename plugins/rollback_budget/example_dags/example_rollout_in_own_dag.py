"""A rollout as a task group in a team's DAG, which ships and rolls back with operators of its own."""

from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from rollback_budget import RollbackBudgetGroup

BUDGET = Path(__file__).with_name("model-v42.yaml")

with DAG("example_rollout_in_own_dag", schedule=None, tags=["example", "rollback-budget"]):
    build = EmptyOperator(task_id="build")
    deploy = BashOperator(task_id="deploy", bash_command="echo helm upgrade assistant")
    # What the rollback is about comes through the environment: it is data, never part of a command.
    undeploy = BashOperator(
        task_id="undeploy",
        bash_command='echo helm rollback assistant && echo "$REASON"',
        env={"REASON": "{{ ti.xcom_pull(task_ids='rollback_budget.verdict')['sentence'] }}"},
        append_env=True,
    )
    clean_up = EmptyOperator(task_id="clean_up")

    build >> RollbackBudgetGroup(budget=BUDGET, ship=deploy, rollback=undeploy, promote=clean_up)
