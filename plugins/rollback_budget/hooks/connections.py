"""Which connections of a spec a process outside of Airflow can find: environment and secrets backend."""

from __future__ import annotations

import os
import time

from airflow.sdk import BaseHook

from rollback_budget.model.spec import RolloutSpec

#: Connections that were found once, and those that were not, with what was said and until when that holds: a
#: secrets backend is not asked for each of thousands of rollouts.
_found: set[str] = set()
_missing: dict[str, tuple[str, float]] = {}
MISSING_FOR_S = 30.0


def connection_problems(spec: RolloutSpec) -> list[str]:
    """Say which connections of a spec cannot be found here."""
    parts = (spec.source, spec.target, *spec.notify)
    names = {getattr(part, "conn_id", None) for part in parts if part is not None}
    said = (connection_problem(name) for name in sorted(name for name in names if name is not None))
    return [problem for problem in said if problem is not None]


def connection_problem(conn_id: str) -> str | None:
    """Say why a connection cannot be found here, None for one that can."""
    if conn_id in _found:
        return None
    said, until = _missing.get(conn_id, ("", 0.0))
    if time.monotonic() < until:
        return said
    try:
        BaseHook.get_connection(conn_id)
    except Exception as error:
        said = f"connection {conn_id!r} {_why_not(conn_id, error)}"
        _missing[conn_id] = (said, time.monotonic() + MISSING_FOR_S)
        return said
    _found.add(conn_id)
    return None


def _why_not(conn_id: str, error: Exception) -> str:
    """Say what is wrong; Airflow says of a variable that it cannot read only that nothing is defined."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if os.environ.get(variable):
        return f"cannot be read: what {variable} holds is neither a URI nor JSON that Airflow understands"
    return f"cannot be found: {error}"
