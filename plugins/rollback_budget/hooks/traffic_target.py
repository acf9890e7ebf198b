"""From the target that a spec names, and Airflow's connections, to who serves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseHook, Connection

from rollback_budget.exceptions import TargetError
from rollback_budget.hooks.http import open_blocking_http_client
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.base import Target, target_class
from rollback_budget.targets.http_responses import Send
from rollback_budget.transport.errors import TransportError
from rollback_budget.transport.response import Response


class AirflowTargetConnections:
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
    return target_class(spec.target.type).open(spec, AirflowTargetConnections())


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
