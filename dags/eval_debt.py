"""The DAGs of eval debt: one on every breach and every 15 minutes, one a day."""

from airflow.sdk import DAG

from rollback_budget.dags.eval_debt import eval_debt_dag
from rollback_budget.dags.eval_debt_reconcile import eval_debt_reconcile_dag

dag: DAG = eval_debt_dag()
daily: DAG = eval_debt_reconcile_dag()
