"""The DAGs of eval debt: one on every breach and every 15 minutes to catch up, one a day."""

from rollback_budget import eval_debt_dag, eval_debt_reconcile_dag

on_breach = eval_debt_dag("example_eval_debt")
daily = eval_debt_reconcile_dag("example_eval_debt_reconcile")
