"""Samples from any SQL database: one statement for all metrics and both versions of a poll."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Executable,
    Row,
    Select,
    TextClause,
    bindparam,
    column,
    literal,
    literal_column,
    select,
    text,
    union_all,
)

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.request_log import LogReading
from rollback_budget.sources.sql.rows import sample_of, time_of
from rollback_budget.sources.sql.scores import ScoreReading
from rollback_budget.sources.sql.session import SqlSession

#: SQLite joins at most 500 selects.
MOST_SELECTS = 400
#: A query that says this may give a column ``judge`` beside the four that every query gives.
_JUDGE = re.compile(r"\bjudge\b", re.IGNORECASE)

_SortIn = Callable[[list[list[Sample]], Sequence[Row[Any]]], None]


class SqlSeries:
    """The ``sql`` source, on an engine that someone else made (and may share).

    Queries see bound parameters only: ``:release``, ``:baseline``, ``:slice``, ``:step_s`` (seconds), and the
    range ``start < time <= end`` as ``:start``/``:end`` (timestamps; ISO 8601 text on SQLite) and as
    ``:start_epoch``/``:end_epoch`` (seconds).

    :param engine: a SQLAlchemy engine; statements run in worker threads, never on the event loop.
    :param metrics: descriptions of the metrics, for those that carry a query of their own.
    :param query: one statement for every metric, giving ``time, metric, version, value, n`` and maybe ``le``.
    :param log: reads a table of requests or of counts instead of queries.
    :param scores: reads the metrics that are made of scores.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Mapping[str, Metric],
        query: str | None = None,
        *,
        log: LogReading | None = None,
        scores: ScoreReading | None = None,
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        self._session = SqlSession(engine, timeout)
        self._metrics = metrics
        self._query = query
        self._log = log
        self._scores = scores

    @classmethod
    def of(cls, spec: RolloutSpec, engine: Engine) -> SqlSeries:
        """Build the source that ``spec`` describes."""
        source = spec.source
        assert isinstance(source, SqlSource)
        log = LogReading.of(spec, engine.dialect.name)
        scores = None
        if source.scores is not None:
            scores = ScoreReading(source.scores, spec.metrics, engine.dialect.name)
        kind = cls if source.watermark is None else _WatermarkedSeries
        series = kind(
            engine, spec.metrics, source.query, log=log, scores=scores, timeout=source.statement_timeout
        )
        if isinstance(series, _WatermarkedSeries):
            series.watermark = source.watermark or ""
        return series

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        [samples] = await self.fetch_many([request])
        return samples

    async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
        """Return the samples of each of ``requests``, which differ in their versions only.

        One statement for all of them, or few when they are very many. Raises :class:`SourceError`.
        """
        found: list[list[Sample]] = [[] for _ in requests]
        for statement, sort_in in self._readings(requests):
            sort_in(found, await self._session.read(statement))
        return found

    def fetch_now(self, request: SeriesRequest) -> list[Sample]:
        """Do what :meth:`fetch` does, in the calling thread."""
        found: list[list[Sample]] = [[]]
        for statement, sort_in in self._readings([request]):
            sort_in(found, self._session.read_now(statement))
        return found[0]

    def _readings(self, requests: Sequence[SeriesRequest]) -> Iterator[tuple[Executable, _SortIn]]:
        """Yield each statement, and what adds its rows to the samples of each request."""
        scores = self._scores
        if scores is not None:
            of_scores = [one._replace(series=tuple(filter(scores.gives, one.series))) for one in requests]
            requests = [
                one._replace(series=tuple(name for name in one.series if not scores.gives(name)))
                for one in requests
            ]
            for statement in scores.statements(of_scores):
                yield statement, partial(_add_samples, scores, of_scores)
        if not requests[0].series:
            return
        if self._log is not None:
            yield self._log.statement(requests), partial(_add_samples, self._log, requests)
            return
        for each in self._statements(requests):
            yield each, partial(_sort_in, requests)

    def _statements(self, requests: Sequence[SeriesRequest]) -> list[Executable]:
        # Selects of the same columns can be joined: those of one query, and all that say nothing of a judge.
        parts: dict[str, list[Select[Any]]] = {}
        for place, request in enumerate(requests):
            if self._query is not None:
                source = _bound(self._query, request, None).columns().subquery(f"request_{place}")
                every: ColumnElement[Any] = literal_column(f"request_{place}.*")
                one = select(literal(place).label("place"), every).select_from(source)
                parts.setdefault("", []).append(one)
                continue
            for series in request.series:
                query = self._query_of(series)
                key = query if _JUDGE.search(query) else ""
                parts.setdefault(key, []).append(self._one(query, place, series, request))
        return [
            union_all(*selects[at : at + MOST_SELECTS])
            for selects in parts.values()
            for at in range(0, len(selects), MOST_SELECTS)
        ]

    def _query_of(self, series: str) -> str:
        metric = series.partition(":")[0]
        query = self._metrics.get(metric, Metric()).query
        if not isinstance(query, str):
            raise SourceError(
                f"metric {metric!r} has no query; add metrics.{metric}.query, or source.query for all",
                transient=False,
            )
        return query

    def _one(self, query: str, place: int, series: str, request: SeriesRequest) -> Select[Any]:
        bound = _bound(query, request, series.partition(":")[2] or None)
        at: ColumnElement[int] = literal(place).label("place")
        named: ColumnElement[str] = literal(series).label("metric")
        if _JUDGE.search(query):
            # Whether it gives a column of that name, the database knows.
            name = f"query_{place}"
            every: ColumnElement[Any] = literal_column(f"{name}.*")
            return select(at, named, every).select_from(bound.columns().subquery(name))
        source = bound.columns(*map(column, ("time", "version", "value", "n"))).subquery()
        return select(at, source.c.time, named, source.c.version, source.c.value, source.c.n)


class _WatermarkedSeries(SqlSeries):
    """One whose database can say up to where its rows are in."""

    watermark: str = ""

    async def settled_until(self) -> datetime | None:
        """Return the time up to which all rows are in, None for an empty table; raises SourceError."""
        rows = await self._session.read(text(self.watermark.strip().rstrip(";")))
        if len(rows) > 1 or any(len(row) != 1 for row in rows):
            raise SourceError(
                "source.watermark must select one time, such as MAX(ingested_at)", transient=False
            )
        return None if not rows or rows[0][0] is None else time_of(rows[0][0])


def _add_samples(
    reading: LogReading | ScoreReading,
    requests: Sequence[SeriesRequest],
    found: list[list[Sample]],
    rows: Sequence[Row[Any]],
) -> None:
    for mine, samples in zip(found, reading.samples(requests, rows), strict=True):
        mine += samples


def _sort_in(requests: Sequence[SeriesRequest], found: list[list[Sample]], rows: Sequence[Row[Any]]) -> None:
    wanted = set(requests[0].series)
    try:
        for row in rows:
            sample = sample_of(row)
            if sample is not None and sample.series in wanted:
                found[row.place].append(sample)
    except AttributeError as error:
        raise SourceError(
            f"source.query has no column {error}; it must give time, metric, version, value, n",
            transient=False,
        ) from None


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
