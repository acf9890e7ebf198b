"""What Airflow loads as a plugin: it shows that Rollback Budget is there, and where its page will hang."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class RollbackBudgetPlugin(AirflowPlugin):
    """Registers Rollback Budget with Airflow."""

    name = "rollback_budget"
