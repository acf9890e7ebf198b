"""Samples from any SQL database: one statement for all metrics and both versions of a poll."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Row,
    Select,
    TextClause,
    bindparam,
    column,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rollback_budget.engine.sample import Sample, SeriesRequest
from rollback_budget.errors import SourceError
from rollback_budget.spec.model import Metric, RolloutSpec
from rollback_budget.spec.source import SqlSource

COLUMNS = ("time", "metric", "version", "value", "n")


class SqlSeries:
    """The ``sql`` source, on an engine that someone else made (and may share).

    Queries see bound parameters only: ``:release``, ``:baseline``, ``:slice``, ``:step_s`` (seconds), and the
    range ``start < time <= end`` as ``:start``/``:end`` (timestamps; ISO 8601 text on SQLite) and as
    ``:start_epoch``/``:end_epoch`` (seconds).

    :param engine: a SQLAlchemy engine; statements run in a worker thread, never on the event loop.
    :param metrics: descriptions of the metrics, for those that carry a query of their own.
    :param query: one statement for every metric, giving ``time, metric, version, value, n``.
    """

    def __init__(self, engine: Engine, metrics: Mapping[str, Metric], query: str | None = None) -> None:
        self._engine = engine
        self._metrics = metrics
        self._query = query

    @classmethod
    def of(cls, spec: RolloutSpec, engine: Engine) -> SqlSeries:
        """Build the source that ``spec`` describes."""
        assert isinstance(spec.source, SqlSource)
        return cls(engine, spec.metrics, spec.source.query)

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        return await asyncio.to_thread(self.fetch_now, request)

    def fetch_now(self, request: SeriesRequest) -> list[Sample]:
        """Do what :meth:`fetch` does, in the calling thread."""
        statement = self._statement(request)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(statement).all()
        except DBAPIError as error:
            raise SourceError(
                f"the metric database did not answer: {error.orig}", transient=_is_transient(error)
            ) from error
        except SQLAlchemyError as error:
            raise SourceError(f"the metric query is not valid: {error}", transient=False) from error
        wanted = set(request.series)
        return [sample for row in rows if (sample := _sample(row)) is not None and sample.series in wanted]

    def _statement(self, request: SeriesRequest) -> Any:
        if self._query is not None:
            source = _bound(self._query, request, None).columns(*map(column, COLUMNS)).subquery()
            return select(*(source.c[name] for name in COLUMNS))
        return union_all(*(self._one(series, request) for series in request.series))

    def _one(self, series: str, request: SeriesRequest) -> Select[Any]:
        metric, _, slice_ = series.partition(":")
        query = self._metrics.get(metric, Metric()).query
        if not isinstance(query, str):
            raise SourceError(
                f"metric {metric!r} has no query; add metrics.{metric}.query, or source.query for all",
                transient=False,
            )
        names = ("time", "version", "value", "n")
        source = _bound(query, request, slice_ or None).columns(*map(column, names)).subquery()
        named: ColumnElement[str] = literal(series).label("metric")
        return select(source.c.time, named, source.c.version, source.c.value, source.c.n)


def _bound(query: str, request: SeriesRequest, slice_: str | None) -> TextClause:
    """Bind what ``query`` mentions; ``unique`` keeps the parameters of joined queries apart."""
    clause = text(query.strip().rstrip(";"))
    values = {
        "release": request.release,
        "baseline": request.baseline,
        "slice": slice_,
        "step_s": request.step.total_seconds(),
        "start": request.start,
        "end": request.end,
        "start_epoch": request.start.timestamp(),
        "end_epoch": request.end.timestamp(),
    }
    mentioned = [name for name in clause.compile().params if name in values]
    return clause.bindparams(*(bindparam(name, values[name], unique=True) for name in mentioned))


def _is_transient(error: DBAPIError) -> bool:
    """Tell a database that is away or busy (ask again) from a query that it rejects (do not)."""
    if error.connection_invalidated:
        return True
    if type(error.orig).__name__ not in ("OperationalError", "InterfaceError", "QueryCanceled"):
        return False
    # SQLite reports a misspelt table as an OperationalError too.
    return not str(error.orig).startswith(("no such", "near ", "unrecognized token", "incomplete input"))


def _sample(row: Row[Any]) -> Sample | None:
    if row.version is None or row.metric is None:
        return None
    return Sample(
        time=_utc(row.time),
        series=str(row.metric),
        version=str(row.version),
        value=math.nan if row.value is None else float(row.value),
        n=None if row.n is None else float(row.n),
    )


def _utc(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise SourceError(
                f"column time holds {value!r}; give epoch seconds or an ISO 8601 time with its offset",
                transient=False,
            ) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise SourceError(
                f"column time holds {value}, which has no time zone; select epoch seconds or a timestamptz",
                transient=False,
            )
        return value.astimezone(UTC)
    return datetime.fromtimestamp(float(value), UTC)
