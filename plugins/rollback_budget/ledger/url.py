"""Where the ledger and the case files are, when the command line does not say so."""

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
    return (
        environ.get("ROLLBACK_BUDGET_LEDGER")
        or _configured(environ, SECTION, OPTION)
        or f"sqlite:///{_home(environ).absolute() / 'rollback_budget.db'}"
    )


def cases_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the case files.

    In this order: ``ROLLBACK_BUDGET_CASES``, ``AIRFLOW__ROLLBACK_BUDGET__CASES_FOLDER``, ``[rollback_budget]
    cases_folder`` of Airflow's configuration file, ``eval-cases`` beside the DAGs folder.
    """
    said = environ.get("ROLLBACK_BUDGET_CASES") or _configured(environ, SECTION, "cases_folder")
    if said:
        return Path(said)
    dags = _configured(environ, "core", "dags_folder") or _home(environ) / "dags"
    return Path(dags).expanduser().parent / "eval-cases"


def gate_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the launch gate's expectations.

    In this order: ``ROLLBACK_BUDGET_GATE``, ``AIRFLOW__ROLLBACK_BUDGET__GATE_FOLDER``, ``[rollback_budget]
    gate_folder`` of Airflow's configuration file, ``eval-gate`` beside the case files.
    """
    said = environ.get("ROLLBACK_BUDGET_GATE") or _configured(environ, SECTION, "gate_folder")
    return Path(said) if said else cases_folder(environ).parent / "eval-gate"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()


def _configured(environ: Mapping[str, str], section: str, option: str) -> str | None:
    """Return what Airflow's configuration says, without starting Airflow."""
    said = environ.get(f"AIRFLOW__{section.upper()}__{option.upper()}")
    if said:
        return said
    parser = configparser.RawConfigParser(strict=False)
    parser.read(Path(environ.get("AIRFLOW_CONFIG") or _home(environ) / "airflow.cfg").expanduser(), "utf-8")
    value = parser.get(section, option, fallback="").strip()
    # Airflow's own parser interpolates, so people escape the percent signs of a URL there.
    return value.replace("%%", "%") or None
