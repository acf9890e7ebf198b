"""One rollout DAG per budget file of ``[rollback_budget] budgets_folder`` (default: ``budgets/``)."""

from airflow.sdk import get_parsing_context

from rollback_budget.workflow.dag import rollout_dags
from rollback_budget.workflow.settings import budgets_folder

for dag in rollout_dags(budgets_folder(), only=get_parsing_context().dag_id):
    globals()[dag.dag_id] = dag
