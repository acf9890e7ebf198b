"""Reading a request log, or a table of counts: the database groups in one scan, the rest is done here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Row,
    Select,
    String,
    case,
    cast,
    column,
    func,
    literal_column,
    null,
    select,
    table,
)

from rollback_budget.engine.sample import Sample
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.sql_table import ROLES, Aggregate, Flag, RequestLog, is_quantile
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.histogram_bounds import bounds_for
from rollback_budget.sources.sql.sql_aggregation import SqlAggregation
from rollback_budget.sources.sql.time_column import TimeColumn


class LogReading:
    """Asks a table for what a request needs, whatever the number of metrics, slices and versions.

    :param layout: the table and its columns; names are quoted by the dialect, values are bound.
    :param bounds: of the latency histogram, ascending, in seconds.
    :param dialect: name of the SQLAlchemy dialect.
    """

    def __init__(self, layout: RequestLog | Aggregate, bounds: Sequence[float], dialect: str) -> None:
        self._layout = layout
        self._bounds = bounds
        self._time = TimeColumn(layout.time, layout.time_type, dialect == "sqlite")

    @classmethod
    def of(cls, spec: RolloutSpec, dialect: str) -> LogReading | None:
        """Build what ``spec`` describes; None when its source has queries instead."""
        assert isinstance(spec.source, SqlSource)
        layout = spec.source.log
        if layout is None:
            return None
        bounds = bounds_for(spec, layout.fastest, layout.slowest) if isinstance(layout, RequestLog) else ()
        return cls(layout, bounds, dialect)

    def statement(self, requests: Sequence[SeriesRequest]) -> Select[Any]:
        """Return the one statement for ``requests``, which differ in their versions only."""
        layout, first = self._layout, requests[0]
        versions = sorted({name for request in requests for name in (request.release, request.baseline)})
        version: ColumnElement[Any] = column(layout.version)
        bucket = self._time.bucket(first.step, names_start=self._names_start)
        groups: dict[str, ColumnElement[Any]] = {"bucket": bucket, "version": version}
        slices = sorted({name for series in first.series if (name := series.partition(":")[2])})
        if slices and layout.slice is not None:
            said = cast(column(layout.slice), String)
            groups["slice"] = case((said.in_(slices), said), else_=null())
        columns, sums = self._columns({series.partition(":")[0] for series in first.series})
        if isinstance(layout, RequestLog) and "latency" in columns:
            groups["le"] = self._latency_bucket(columns.pop("latency"))
        schema, _, name = layout.table.rpartition(".")
        # Grouped by what an inner query names, so that expressions with parameters are written once.
        rows = (
            select(*(value.label(label) for label, value in {**groups, **columns}.items()))
            .select_from(table(name, schema=schema or None))
            .where(
                version.in_(versions),
                self._time.within(first.start, first.end, names_start=self._names_start),
            )
            .subquery("request")
        )
        totals = [aggregate(rows.c[label]).label(key) for key, (aggregate, label) in sums.items()]
        keys = [rows.c[label] for label in groups]
        return select(*keys, func.count().label("total"), *totals).group_by(*keys)

    def samples(self, requests: Sequence[SeriesRequest], rows: Sequence[Row[Any]]) -> list[list[Sample]]:
        """Return the samples of each of ``requests`` from the rows of :meth:`statement`."""
        cells = SqlAggregation(self._layout, self._bounds)
        for row in rows:
            cells.add(row._asdict())
        return [cells.samples(request) for request in requests]

    def _columns(self, metrics: set[str]) -> tuple[dict[str, ColumnElement[Any]], dict[str, tuple[Any, str]]]:
        """Return the values that are read of each row, and what is made of them: sum, count or maximum."""
        layout = self._layout
        columns: dict[str, ColumnElement[Any]] = {}
        sums: dict[str, tuple[Any, str]] = {}
        for metric, role in ROLES.items():
            source = getattr(layout, role)
            if metric in metrics and source is not None:
                columns[role] = _flag(source) if isinstance(source, Flag) else _number(source)
                sums[f"sum_{role}"], sums[f"count_{role}"] = (func.sum, role), (func.count, role)
        if isinstance(layout, Aggregate):
            columns["requests"] = _number(layout.requests)
            sums["requests"] = (func.sum, "requests")
            for metric in sorted(metrics & layout.quantiles.keys()):
                columns[metric] = _number(layout.quantiles[metric])
                sums[metric] = (func.max, metric)
        elif layout.latency is not None and any(is_quantile(metric) for metric in metrics):
            columns["latency"] = column(layout.latency)
        return columns, sums

    @property
    def _names_start(self) -> bool:
        return isinstance(self._layout, Aggregate) and self._layout.label == "start"

    def _latency_bucket(self, latency: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the place of the first bound that a latency does not exceed, by halving."""
        layout = self._layout
        scale = 1000.0 if isinstance(layout, RequestLog) and layout.latency_unit == "ms" else 1.0

        def find(first: int, last: int) -> ColumnElement[Any]:
            if first == last:
                return literal_column(str(first))
            middle = (first + last) // 2
            bound: ColumnElement[float] = literal_column(repr(self._bounds[middle] * scale))
            return case((latency <= bound, find(first, middle)), else_=find(middle + 1, last))

        return case((latency.is_(None), null()), else_=find(0, len(self._bounds)))


def _flag(flag: Flag) -> ColumnElement[Any]:
    stored: ColumnElement[Any] = column(flag.column)
    if not flag.among:
        return cast(stored, Integer)
    return case((stored.is_(None), null()), (cast(stored, String).in_(flag.among), 1), else_=0)


def _number(name: str) -> ColumnElement[Any]:
    return cast(column(name), Double)
