"""The eval-debt DAG for Airflow: runs on every breach, and catches up every 15 minutes."""

from airflow.sdk import DAG

from rollback_budget.workflow.debt_dag import eval_debt_dag

dag: DAG = eval_debt_dag()
