"""What Airflow asks of a provider."""

from __future__ import annotations

import sys
from typing import Any

from rollback_budget import __version__

INTEGRATION = "Rollback Budget"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; imports nothing heavy."""
    return {
        "package-name": "rollback-budget",
        "name": "Rollback Budget",
        "description": "The stop-loss for LLM rollouts: beyond X for Y minutes, roll back.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": INTEGRATION, "tags": ["software"]},
        ],
        "operators": _modules(
            "operators",
            "announce",
            "broken_budget",
            "decide",
            "draft_cases",
            "eval_debt",
            "human_question",
            "launch_gate",
            "log_breach",
            "post_backlog",
            "preflight",
            "promote",
            "review",
            "rollback",
            "ship",
            "ticket",
            "traffic_ramp",
        ),
        "sensors": _modules("sensors", "rollback_budget", "rollout_round"),
        "hooks": _modules(
            "hooks", "case_source", "connections", "http", "metric_source", "recording", "traffic_target"
        ),
        "triggers": _modules("triggers", "hitl_response", "reminder", "review", "rollback_budget", "stage"),
        "notifications": [
            "rollback_budget.notifications.webhook.TeamsNotifier",
            "rollback_budget.notifications.webhook.WebhookNotifier",
        ],
        "extra-links": [
            "rollback_budget.links.rollout.RolloutChartLink",
            "rollback_budget.links.rollout.RolloutRunLink",
        ],
        "plugins": _plugins(),
        "config": {
            "rollback_budget": {
                "description": "Where Rollback Budget keeps and finds its things.",
                "options": {
                    "sql_alchemy_conn": _option(
                        "Database URL of the ledger. Empty: a SQLite file in AIRFLOW_HOME. "
                        "Never Airflow's own metadata database.",
                        sensitive=True,
                    ),
                    "pool": _option(
                        "Pool of the tasks of rollouts. Empty: `rollback_budget`, a pool of their own, which "
                        "Airflow creates when it starts, and `rollback-budget setup`."
                    ),
                    "budgets_folder": _option(
                        "Folder of the budget files. Empty: `budgets` beside the DAGs."
                    ),
                    "backlog_folder": _option(
                        "Folder of the local backlog, one Markdown file per eval debt. Empty: `eval-debt` "
                        "beside the DAGs."
                    ),
                    "cases_folder": _option(
                        "Folder of the eval cases, one JSON Lines file per eval debt. Empty: `eval-cases` "
                        "beside the DAGs."
                    ),
                    "gate_folder": _option(
                        "Folder of the launch gate's expectations, one JSON file per eval debt. Empty: "
                        "`eval-gate` beside the eval cases."
                    ),
                    "max_suspension": _option(
                        "The longest time for which a budget can be suspended, such as `30m` or `1d`. Empty:"
                        " `4h`."
                    ),
                    "tracker": _option(
                        "Where eval debt is filed: `local`, `jira`, or what another package registers in "
                        "`rollback_budget.trackers`. Empty: `jira` when jira_conn_id is set, else `local`."
                    ),
                    "tracker_conn_id": _option("The connection of the tracker. Empty: jira_conn_id."),
                    "jira_conn_id": _option(
                        "A `jira` connection to file eval debt with. Empty: the local backlog, unless "
                        "tracker says otherwise."
                    ),
                },
            }
        },
    }


def _modules(folder: str, *names: str) -> list[dict[str, Any]]:
    modules = [f"rollback_budget.{folder}.{name}" for name in names]
    return [{"integration-name": INTEGRATION, "python-modules": modules}]


def _plugins() -> list[dict[str, str]]:
    """Return the plugin, unless Airflow would load it twice.

    With ``[core] lazy_discover_providers`` off Airflow loads what providers list besides what it finds by
    entry point, and reports the second one as an import error. The entry point is what always works.
    """
    settings = sys.modules.get("airflow.settings")
    if settings is not None and not getattr(settings, "LAZY_LOAD_PROVIDERS", True):
        return []
    return [{"name": "rollback_budget", "plugin-class": "rollback_budget.plugin.RollbackBudgetPlugin"}]


def _option(description: str, *, sensitive: bool = False) -> dict[str, Any]:
    option: dict[str, Any] = {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "",
    }
    return {**option, "sensitive": True} if sensitive else option
