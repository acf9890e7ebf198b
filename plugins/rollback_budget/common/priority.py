"""In which pool the tasks of a rollout run, and before which others: no ETL may keep a rollback waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollback_budget.common.config import pool
from rollback_budget.common.retries import with_defaults

#: Above what teams use, and well inside the 32 bits that Airflow's database has for it.
PRIORITY = 1_000_000


def rollout_task(kwargs: Mapping[str, Any], *defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a task of a rollout, completed by pool, priority and ``defaults``.

    What ``kwargs`` or the ``default_args`` of the DAG name wins.
    """
    scheduling = {"pool": pool(), "priority_weight": PRIORITY, "weight_rule": "absolute"}
    return with_defaults(kwargs, *defaults, scheduling)
