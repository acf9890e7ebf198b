"""From the target that a spec names, and Airflow's connections, to who serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from airflow.sdk import BaseHook, Connection

from rollback_budget.clock import Log
from rollback_budget.exceptions import TargetError
from rollback_budget.hooks.http import keep_connection, load_blocking_client, open_blocking_http_client
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.rollback.bounded_call import call_within
from rollback_budget.targets.base import Target, target_class
from rollback_budget.targets.http_responses import Send
from rollback_budget.transport.client import RequestsClient
from rollback_budget.transport.errors import TransportError
from rollback_budget.transport.response import Response

GetConnection = Callable[[str], Connection]

#: How long Airflow may take to look a connection up when there is one that was looked up before.
LOOKUP_TIMEOUT = timedelta(seconds=1)
#: How long it may take where there is none.
FIRST_LOOKUP_TIMEOUT = timedelta(seconds=4)
#: How long it may take ahead of a connection's use.
LOOKUP_AHEAD_TIMEOUT = timedelta(seconds=10)
#: A connection is looked up again, ahead of its use, when the one that is kept is older than this.
FRESH_FOR = timedelta(minutes=5)


class AirflowTargetConnections:
    """Airflow's connections, as targets ask for them.

    A client is opened for each request, so that a long verification goes by the connection as it is then.

    :param get_connection: looks one up.
    """

    def __init__(self, get_connection: GetConnection = BaseHook.get_connection) -> None:
        self._get_connection = get_connection

    def sender(self, conn_id: str, timeout: timedelta) -> Send:
        """Return what sends requests through an ``http`` connection."""
        return send_through(conn_id, timeout.total_seconds(), self._get_connection)

    def connection(self, conn_id: str) -> Connection:
        """Return any connection."""
        try:
            return self._get_connection(conn_id)
        except Exception as error:
            raise TargetError(f"the connection {conn_id} cannot be used: {type(error).__name__}") from error


class _InTime(AirflowTargetConnections):
    """Connections for a few requests in a row: one client each, and a limit for each request.

    :param clients: closes them.
    """

    def __init__(self, get_connection: GetConnection, most: timedelta, clients: ExitStack) -> None:
        super().__init__(get_connection)
        self._most = most
        self._clients = clients

    def sender(self, conn_id: str, timeout: timedelta) -> Send:
        """Return what sends requests, through a client that is opened with the first one."""
        kept: list[RequestsClient] = []

        @contextmanager
        def client() -> Iterator[RequestsClient]:
            if not kept:
                opened = open_blocking_http_client(conn_id, self._get_connection)
                kept.append(self._clients.enter_context(opened))
            yield kept[0]

        return _sender(conn_id, client, min(timeout, self._most))


class KeptConnections:
    """Connections looked up ahead of their use, for the moment when Airflow cannot look one up.

    Each is looked up again when it is used; only where that fails, or takes longer than
    :data:`LOOKUP_TIMEOUT`, the one that is kept is used. Secrets stay in the process's memory.

    :param look_up: asks Airflow.
    :param elapsed: a monotonic clock, seconds.
    """

    def __init__(
        self,
        look_up: GetConnection = BaseHook.get_connection,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._elapsed = elapsed
        self._kept: dict[str, tuple[Connection, float]] = {}
        self._lock = threading.Lock()

    def get(self, conn_id: str) -> Connection:
        """Return the connection as it is now, or as it was when Airflow last said it."""
        kept = self._kept.get(conn_id)
        if kept is None:
            return call_within(FIRST_LOOKUP_TIMEOUT, lambda: self._refresh(conn_id))
        try:
            return call_within(LOOKUP_TIMEOUT, lambda: self._refresh(conn_id))
        except Exception:
            return kept[0]

    def keep(self, spec: RolloutSpec, log: Log) -> bool:
        """Look up what the target of ``spec`` will need; say what cannot be. Return whether all is kept."""
        try:
            if spec.target is not None:
                target_class(spec.target.type).open(spec, _Ahead(self))
        except Exception as error:
            log.warning("the target's connection cannot be read ahead of a rollback: %s", error)
            return False
        return True

    def look_up_ahead(self, conn_id: str) -> Connection:
        """Return a connection; looked up once in :data:`FRESH_FOR`, whatever the number of watches."""
        with self._lock:
            kept = self._kept.get(conn_id)
            if kept is not None and self._elapsed() - kept[1] < FRESH_FOR.total_seconds():
                return kept[0]
            return call_within(LOOKUP_AHEAD_TIMEOUT, lambda: self._refresh(conn_id))

    def _refresh(self, conn_id: str) -> Connection:
        connection = keep_connection(self._look_up(conn_id))
        self._kept[conn_id] = (connection, self._elapsed())
        return connection


class _Ahead:
    """Looks up every connection that a target asks for while it is opened."""

    def __init__(self, kept: KeptConnections) -> None:
        self._kept = kept

    def sender(self, conn_id: str, timeout: timedelta) -> Send:
        load_blocking_client()
        self._kept.look_up_ahead(conn_id)
        return send_through(conn_id, timeout.total_seconds(), self._kept.get)

    def connection(self, conn_id: str) -> Connection:
        return self._kept.look_up_ahead(conn_id)


@cache
def kept_connections() -> KeptConnections:
    """Return the ones that all watches of this process share."""
    return KeptConnections()


def open_target(spec: RolloutSpec) -> Target:
    """Return the target of ``spec``; raises :class:`TargetError` when it names none that can be used."""
    return _open(spec, AirflowTargetConnections())


@contextmanager
def open_target_in_time(spec: RolloutSpec, most: timedelta) -> Iterator[Target]:
    """Open the target of ``spec`` for a request that cannot wait: with connections that were kept.

    :param most: a limit for each request to it.
    """
    with ExitStack() as clients:
        yield _open(spec, _InTime(kept_connections().get, most, clients))


def _open(spec: RolloutSpec, connections: AirflowTargetConnections) -> Target:
    if spec.target is None:
        raise TargetError("the budget names no target; add `target:` to it or to defaults.yaml")
    return target_class(spec.target.type).open(spec, connections)


def send_through(
    conn_id: str, timeout_s: float, get_connection: GetConnection = BaseHook.get_connection
) -> Send:
    """Return what sends requests through an Airflow ``http`` connection.

    Errors name the connection and never its content.
    """
    return _sender(
        conn_id, lambda: open_blocking_http_client(conn_id, get_connection), timedelta(seconds=timeout_s)
    )


def _sender(
    conn_id: str, open_client: Callable[[], AbstractContextManager[RequestsClient]], timeout: timedelta
) -> Send:
    def send(method: str, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        try:
            with open_client() as client:
                return client.request(method, path, body=body, headers=headers, timeout=timeout)
        except TransportError as error:
            what = f"{method} {path.partition('?')[0]} by the connection {conn_id}"
            accepted = None if error.ambiguous else False
            raise TargetError(f"{what}: {error.reason}", accepted=accepted) from error

    return send
