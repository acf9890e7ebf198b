"""What Airflow asks of a provider."""

from __future__ import annotations

from typing import Any

from rollback_budget import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; imports nothing heavy."""
    return {
        "package-name": "rollback-budget",
        "name": "Rollback Budget",
        "description": "The stop-loss for LLM rollouts: beyond X for Y minutes, roll back.",
        "versions": [__version__],
        "operators": [
            {
                "integration-name": "Rollback Budget",
                "python-modules": [
                    "rollback_budget.operators.announce",
                    "rollback_budget.operators.decide",
                    "rollback_budget.operators.draft_cases",
                    "rollback_budget.operators.launch_gate",
                    "rollback_budget.operators.log_breach",
                    "rollback_budget.operators.preflight",
                    "rollback_budget.dags.eval_debt_reconcile",
                    "rollback_budget.operators.review",
                    "rollback_budget.operators.rollback",
                    "rollback_budget.operators.ship",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Rollback Budget",
                "python-modules": [
                    "rollback_budget.sensors.rollout_round",
                    "rollback_budget.sensors.rollback_budget",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "Rollback Budget",
                "python-modules": [
                    "rollback_budget.triggers.reminder",
                    "rollback_budget.triggers.review",
                    "rollback_budget.triggers.rollback_budget",
                ],
            }
        ],
        "integrations": [
            {
                "integration-name": "Rollback Budget",
                "external-doc-url": "https://airflow.apache.org/",
                "tags": ["software"],
            }
        ],
        "config": {
            "rollback_budget": {
                "description": "Where Rollback Budget keeps and finds its things.",
                "options": {
                    "sql_alchemy_conn": _option(
                        "Database URL of the ledger. Empty: a SQLite file in AIRFLOW_HOME. "
                        "Never Airflow's own metadata database.",
                        sensitive=True,
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
                    "jira_conn_id": _option(
                        "A `jira` connection to file eval debt with. Empty: the local backlog."
                    ),
                },
            }
        },
    }


def _option(description: str, *, sensitive: bool = False) -> dict[str, Any]:
    option: dict[str, Any] = {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "",
    }
    return {**option, "sensitive": True} if sensitive else option
