"""What Airflow loads as a plugin: the app of its API server, a listener, the links on a task's page."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from rollback_budget import listener
from rollback_budget.api.app import URL_PREFIX, LazyApp
from rollback_budget.links.rollout import ROLLOUT_LINKS


class RollbackBudgetPlugin(AirflowPlugin):
    """Registers Rollback Budget with Airflow."""

    name = "rollback_budget"
    fastapi_apps: list[Any] = [  # noqa: RUF012 - Airflow reads a list from the class
        {"app": LazyApp(), "url_prefix": URL_PREFIX, "name": "Rollback Budget"}
    ]
    listeners: list[Any] = [listener]  # noqa: RUF012
    operator_extra_links: list[Any] = list(ROLLOUT_LINKS)  # noqa: RUF012
