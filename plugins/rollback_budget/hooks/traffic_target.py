"""From the target that a spec names, and Airflow's connections, to who serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from airflow.providers.http.hooks.http import HttpHook

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import FlagdTarget, HttpTarget, MlflowTarget, UnleashTarget
from rollback_budget.targets.base import Target
from rollback_budget.targets.flagd import FlagdFile
from rollback_budget.targets.http import HttpControl
from rollback_budget.targets.http_responses import Reply, Send
from rollback_budget.targets.mlflow import MlflowAlias
from rollback_budget.targets.unleash import UnleashFlag


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

    A password without a login is a bearer token. Errors name the connection and never its content.
    """

    def send(method: str, path: str, body: Any, headers: Mapping[str, str]) -> Reply:
        hook = HttpHook(method=method, http_conn_id=conn_id)
        options = {"check_response": False, "timeout": timeout_s}
        what = f"{method} {path.partition('?')[0]} by the connection {conn_id}"
        try:
            connection = hook.get_connection(conn_id)
            own = dict(headers)
            if connection.password and not connection.login:
                own.setdefault("Authorization", f"Bearer {connection.password}")
        except Exception as error:
            raise TargetError(f"{what}: the connection cannot be used: {type(error).__name__}") from error
        payload = {} if body is None else {"json": body}
        try:
            reply: requests.Response = hook.run(path, headers=own, extra_options=options, **payload)
        except requests.exceptions.ConnectTimeout as error:
            raise TargetError(f"{what}: no connection within {timeout_s:g} s") from error
        except requests.exceptions.Timeout as error:
            raise TargetError(f"{what}: no answer within {timeout_s:g} s", accepted=None) from error
        except requests.exceptions.RequestException as error:
            raise TargetError(f"{what}: {error}", accepted=None) from error
        return reply

    return send
