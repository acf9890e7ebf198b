"""Where the ledger is, when nobody says so on the command line."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

SECTION = "rollback_budget"
OPTION = "sql_alchemy_conn"


def ledger_url(environ: Mapping[str, str]) -> str:
    """Return the ledger's database URL.

    In this order: ``ROLLBACK_BUDGET_LEDGER``, ``AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN``,
    ``[rollback_budget] sql_alchemy_conn`` of Airflow's configuration file, a SQLite file in ``AIRFLOW_HOME``.
    """
    home = Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return (
        environ.get("ROLLBACK_BUDGET_LEDGER")
        or environ.get("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN")
        or _configured(Path(environ.get("AIRFLOW_CONFIG") or home / "airflow.cfg").expanduser())
        or f"sqlite:///{home.absolute() / 'rollback_budget.db'}"
    )


def _configured(file: Path) -> str | None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(file, encoding="utf-8")
    value = parser.get(SECTION, OPTION, fallback="").strip()
    # Airflow's own parser interpolates, so people escape the percent signs of a URL there.
    return value.replace("%%", "%") or None
