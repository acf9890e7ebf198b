"""From the target that a spec names, and Airflow's connections, to who serves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import BaseHook, Connection

from rollback_budget.exceptions import TargetError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.base import Target, target_class
from rollback_budget.targets.http_responses import Reply, Send


class AirflowConnections:
    """Airflow's connections, as targets ask for them."""

    def sender(self, conn_id: str, timeout: timedelta) -> Send:
        """Return what sends requests through an ``http`` connection."""
        return send_through(conn_id, timeout.total_seconds())

    def connection(self, conn_id: str) -> Connection:
        """Return any connection."""
        try:
            return BaseHook.get_connection(conn_id)
        except Exception as error:
            raise TargetError(f"the connection {conn_id} cannot be used: {type(error).__name__}") from error


def open_target(spec: RolloutSpec) -> Target:
    """Return the target of ``spec``; raises :class:`TargetError` when it names none that can be used."""
    if spec.target is None:
        raise TargetError("the budget names no target; add `target:` to it or to defaults.yaml")
    return target_class(spec.target.type).open(spec, AirflowConnections())


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
