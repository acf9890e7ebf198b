"""Default retries of our tasks: a rollout must outlive a restart of any component."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

#: A restart of a worker or of the scheduler costs seconds, not Airflow's default of five minutes.
QUICK_RETRIES: Mapping[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=5)}
#: For tasks that wait in the triggerer: each restart of a scheduler or of a triggerer may cost one try, and
#: an API server that is away several. Retries over about eight minutes.
WATCH_RETRIES: Mapping[str, Any] = {
    "retries": 10,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=1),
}
#: For tasks that write the ledger: retries over about four hours.
LEDGER_RETRIES: Mapping[str, Any] = {
    "retries": 60,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}
#: A notification that cannot be sent is tried again, and then given up: it must not fail a rollout.
NOTIFICATION_RETRIES: Mapping[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=20)}


def with_defaults(kwargs: Mapping[str, Any], *defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments, completed by ``defaults`` that neither they nor ``default_args`` name.

    Airflow hands an operator's ``__init__`` the merged ``default_args`` of its DAG and its task groups, but
    fills in only the arguments that this ``__init__`` names itself. Without this, a default of ours would win
    over what a user wrote in ``default_args``.
    """
    ours = {name: value for one in defaults for name, value in one.items()}
    return {**unless_stated(kwargs.get("default_args"), ours), **kwargs}


def unless_stated(default_args: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``defaults`` that ``default_args`` does not name."""
    return {name: value for name, value in defaults.items() if name not in (default_args or {})}
