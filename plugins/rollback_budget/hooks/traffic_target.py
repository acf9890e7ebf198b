"""From the target that a spec names, and Airflow's connections, to who serves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rollback_budget.exceptions import TargetError
from rollback_budget.hooks.http import open_blocking_http_client
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import FlagdTarget, HttpTarget, MlflowTarget, UnleashTarget
from rollback_budget.targets.base import Target
from rollback_budget.targets.flagd import FlagdFile
from rollback_budget.targets.http import HttpControl
from rollback_budget.targets.http_responses import Send
from rollback_budget.targets.mlflow import MlflowAlias
from rollback_budget.targets.unleash import UnleashFlag
from rollback_budget.transport.errors import TransportError
from rollback_budget.transport.response import Response


def open_target(spec: RolloutSpec) -> Target:
    """Return the target of ``spec``; raises :class:`TargetError` when it names none that can be used."""
    config = spec.target
    if config is None:
        raise TargetError("the budget names no target; add `target:` to it or to defaults.yaml")
    timeout_s = config.request_timeout.total_seconds()
    versions = spec.release, spec.baseline
    match config:
        case HttpTarget():
            elsewhere = None if config.baseline_health is None else config.baseline_health.conn_id
            return HttpControl(
                config,
                *versions,
                send_through(config.conn_id, timeout_s),
                None if elsewhere is None else send_through(elsewhere, timeout_s),
            )
        case MlflowTarget():
            return MlflowAlias(config, *versions, send_through(config.conn_id, timeout_s))
        case UnleashTarget():
            return UnleashFlag(config, *versions, send_through(config.conn_id, timeout_s))
        case FlagdTarget():
            return FlagdFile(config, *versions)


def send_through(conn_id: str, timeout_s: float) -> Send:
    """Return what sends requests through an Airflow ``http`` connection.

    Errors name the connection and never its content.
    """

    def send(method: str, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        try:
            with open_blocking_http_client(conn_id) as client:
                timeout = timedelta(seconds=timeout_s)
                return client.request(method, path, body=body, headers=headers, timeout=timeout)
        except TransportError as error:
            what = f"{method} {path.partition('?')[0]} by the connection {conn_id}"
            accepted = None if error.ambiguous else False
            raise TargetError(f"{what}: {error.reason}", accepted=accepted) from error

    return send
