"""What the deployment decides: the ``[rollback_budget]`` section of Airflow's configuration."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.configuration import conf

from rollback_budget.charts import can_draw
from rollback_budget.exceptions import RollbackBudgetError

if TYPE_CHECKING:
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey

SECTION = "rollback_budget"
#: Unless the configuration says otherwise.
LONGEST_SUSPENSION = timedelta(hours=4)


def open_ledger() -> Ledger:
    """Return the ledger, one per process and address; no connection is held between calls."""
    # Tables are of no use while DAGs are parsed.
    from rollback_budget.ledger.url import ledger_url

    return _ledger(conf.get(SECTION, "sql_alchemy_conn", fallback="") or ledger_url(os.environ))


@lru_cache(maxsize=8)
def _ledger(url: str) -> Ledger:
    from rollback_budget.ledger.ledger import Ledger

    return Ledger(url)


def pool() -> str:
    """Return the pool of the rollouts' tasks."""
    return conf.get(SECTION, "pool", fallback="") or "rollback_budget"


def max_suspension() -> timedelta:
    """Return the longest time for which a budget can be suspended; raises RollbackBudgetError."""
    from rollback_budget.model.duration import parse_duration

    text = conf.get(SECTION, "max_suspension", fallback="")
    if not text:
        return LONGEST_SUSPENSION
    try:
        longest = parse_duration(text)
    except ValueError as error:
        raise RollbackBudgetError(f"[{SECTION}] max_suspension: {text!r} is {error}") from None
    if longest <= timedelta(0):
        raise RollbackBudgetError(f"[{SECTION}] max_suspension: {text!r} is no time at all; write 4h")
    return longest


def budgets_folder() -> Path:
    """Return where the budget files are."""
    return _folder("budgets_folder", "budgets")


def backlog_folder() -> Path:
    """Return where the local backlog keeps one Markdown file per eval debt."""
    return _folder("backlog_folder", "eval-debt")


def cases_folder() -> Path:
    """Return where the eval cases are, one file per debt."""
    return _folder("cases_folder", "eval-cases")


def gate_folder() -> Path:
    """Return where the launch gate's expectations are, one file per debt."""
    if conf.get(SECTION, "gate_folder", fallback=""):
        return _folder("gate_folder", "eval-gate")
    return cases_folder().parent / "eval-gate"


def jira_conn_id() -> str | None:
    """Return the ``jira`` connection to file eval debt with, None for the local backlog."""
    return conf.get(SECTION, "jira_conn_id", fallback="") or None


def tracker_name() -> str:
    """Return the ticket tracker's name: as set, else ``jira`` when jira_conn_id is set, else ``local``."""
    configured: str = conf.get(SECTION, "tracker", fallback="")
    return configured or ("jira" if jira_conn_id() else "local")


def tracker_conn_id() -> str | None:
    """Return the connection of the ticket tracker, None when no option names one."""
    return conf.get(SECTION, "tracker_conn_id", fallback="") or jira_conn_id()


def path_of_run(key: RolloutKey) -> str:
    """Return the path under which a rollout's DAG run is seen."""
    return f"dags/{quote(key.dag_id, safe='')}/runs/{quote(key.run_id, safe='')}"


def link_to_run(key: RolloutKey) -> str | None:
    """Return where a rollout's DAG run is seen; None when ``[api] base_url`` is not set."""
    return _link(path_of_run(key))


def link_to_chart(key: RolloutKey) -> str | None:
    """Return where a rollout's chart is seen; None without ``[api] base_url`` or the extra ``charts``."""
    return _link(f"rollback-budget/api/{path_of_run(key)}/chart.svg") if can_draw() else None


def _link(path: str) -> str | None:
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/{path}" if base else None


def _folder(option: str, beside_dags: str) -> Path:
    configured = conf.get(SECTION, option, fallback="")
    if configured:
        return Path(configured)
    return Path(conf.get_mandatory_value("core", "dags_folder")).parent / beside_dags
