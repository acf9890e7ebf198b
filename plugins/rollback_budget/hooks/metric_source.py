"""From Airflow connections to the source that a spec names; secrets stay in them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from airflow.sdk import BaseHook, Connection
from sqlalchemy import Engine

from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session, open_http_client
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest, Source, is_surveyed, source_class
from rollback_budget.transport.async_client import AsyncHttpClient
from rollback_budget.watch.shared_sources import shared_source_of

#: A PostgreSQL server that vanished without a word is noticed within a minute: no thread waits for it.
KEEP_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class AirflowSourceConnections:
    """Airflow's connections, as sources ask for them."""

    async def http(self, conn_id: str) -> AsyncHttpClient:
        """Return the client of an ``http`` connection."""
        return await open_http_client(conn_id)

    async def engine(self, conn_id: str) -> Engine:
        """Return the engine of a common-sql connection."""
        return await open_engine(conn_id)

    async def connection(self, conn_id: str) -> Connection:
        """Return any connection."""
        try:
            return await BaseHook.aget_connection(conn_id)
        except Exception as error:
            raise SourceError(f"connection {conn_id!r} cannot be used: {error}", transient=False) from error


async def open_source(spec: RolloutSpec) -> Source:
    """Return the source of ``spec``; raises :class:`SourceError` when its connection cannot be used."""
    if spec.source is None:
        raise SourceError(
            "the budget names no source; add `source:` to it or to defaults.yaml", transient=False
        )
    # The first time this reads entry points and imports the source, which other watches need not wait for.
    kind = await asyncio.to_thread(source_class, spec.source.type)
    return await kind.open(spec, AirflowSourceConnections())


async def open_shared_source(spec: RolloutSpec) -> Source:
    """Return this rollout's reader of the source that it shares with all others of the same queries.

    Every watch (poking, rescheduled, deferred), preflight and the verification of a rollback read through it,
    so that retries, ``Retry-After`` and a failing backend mean the same everywhere. The rate limit of a
    backend is known to the event loop that met it: to all watches of a triggerer, to all pokes of a poking
    sensor, but to a single poke of a rescheduled one, whose next poke is another process.
    """
    return await shared_source_of(spec, open_source)


async def survey_once(spec: RolloutSpec, *requests: SeriesRequest) -> Sequence[str]:
    """Return what about the series of ``requests`` is doubtful, for a task with a short event loop.

    :return: a sentence each; also that the source could not say.
    """
    try:
        source = await open_source(spec)
        if not is_surveyed(source):
            return ()
        return list(dict.fromkeys([said for request in requests for said in await source.survey(request)]))
    except SourceError as error:
        return (f"whether the series are as the settings say could not be asked: {error}",)
    finally:
        await close_shared_session()


async def open_engine(conn_id: str) -> Engine:
    """Return the engine of a common-sql connection; raises :class:`SourceError` when it cannot be used."""
    try:
        connection = await BaseHook.aget_connection(conn_id)
        return await asyncio.to_thread(engine_of, conn_id, await connection.aget_uri())
    except Exception as error:
        raise SourceError(f"connection {conn_id!r} cannot be used: {error}", transient=False) from error


@lru_cache(maxsize=32)
def engine_of(conn_id: str, uri: str) -> Engine:
    """Return one engine per connection and process, shared by all rollouts that read through it."""
    connection = Connection.from_uri(uri, conn_id=conn_id)
    hook = connection.get_hook()
    # Some hooks look their connection up again; in a triggerer that call would never return.
    hook.get_connection = lambda _conn_id: connection
    options: dict[str, Any] = {"pool_pre_ping": True}
    if connection.conn_type == "postgres":
        options["connect_args"] = dict(KEEP_ALIVE)
    engine = hook.get_sqlalchemy_engine(engine_kwargs=options)
    assert isinstance(engine, Engine)
    return engine
