"""From Airflow connections to the source that a spec names; secrets stay in them."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from airflow.sdk import BaseHook, Connection
from sqlalchemy import Engine

from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import open_http_client
from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.source import PrometheusSource, RecordedSource, SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import Source
from rollback_budget.sources.http_json.source import open_http_json
from rollback_budget.sources.prometheus.source import PrometheusSeries
from rollback_budget.sources.recorded import RecordedSeries as RecordedSeries
from rollback_budget.sources.sql.source import SqlSeries
from rollback_budget.watch.shared_sources import shared_source_of

#: A PostgreSQL server that vanished without a word is noticed within a minute: no thread waits for it.
KEEP_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


async def open_source(spec: RolloutSpec) -> Source:
    """Return the source of ``spec``; raises :class:`SourceError` when its connection cannot be used."""
    if isinstance(spec.source, RecordedSource):
        return RecordedSeries(spec.source.path)
    if isinstance(spec.source, PrometheusSource):
        return PrometheusSeries.of(spec, await open_http_client(spec.source.conn_id))
    if isinstance(spec.source, HttpJsonSource):
        return open_http_json(spec, await open_http_client(spec.source.conn_id))
    if not isinstance(spec.source, SqlSource):
        raise SourceError(
            "the budget names no source; add `source:` to it or to defaults.yaml", transient=False
        )
    return SqlSeries.of(spec, await open_engine(spec.source.conn_id))


async def open_shared_source(spec: RolloutSpec) -> Source:
    """Return this rollout's seat at the source that it shares with all others of the same queries."""
    return await shared_source_of(spec, open_source)


async def open_engine(conn_id: str) -> Engine:
    """Return the engine of a common-sql connection; raises :class:`SourceError` when it cannot be used."""
    try:
        connection = await BaseHook.aget_connection(conn_id)
        return await asyncio.to_thread(engine_of, conn_id, connection.get_uri())
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
