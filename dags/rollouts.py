"""One rollout DAG per budget file of ``[rollback_budget] budgets_folder`` (default: ``budgets/``)."""

from airflow.sdk import get_parsing_context

from rollback_budget.common.config import budgets_folder
from rollback_budget.dags.rollout import rollout_dags

for dag in rollout_dags(budgets_folder(), only=get_parsing_context().dag_id):
    globals()[dag.dag_id] = dag
