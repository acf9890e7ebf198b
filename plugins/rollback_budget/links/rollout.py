"""From a task of a rollout to its run and to its chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from rollback_budget.common.config import link_to_chart, link_to_run, path_of_run
from rollback_budget.ledger.rollout_key import RolloutKey

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class RolloutRunLink(BaseOperatorLink):
    """The page of the DAG run, below the base path of ``[api] base_url`` where that is set."""

    name = "Rollout"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the run that the task instance belongs to."""
        key = RolloutKey(ti_key.dag_id, ti_key.run_id)
        return link_to_run(key) or f"/{path_of_run(key)}"


class RolloutChartLink(BaseOperatorLink):
    """The chart of every budget of the rollout; no button when the extra ``charts`` is not installed."""

    name = "Rollout chart"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the chart, or an empty text, for which Airflow shows no button."""
        return link_to_chart(RolloutKey(ti_key.dag_id, ti_key.run_id)) or ""


#: For the tasks of a rollout; a sensor that stands alone is not in the ledger and has no chart.
ROLLOUT_LINKS = (RolloutRunLink(), RolloutChartLink())
