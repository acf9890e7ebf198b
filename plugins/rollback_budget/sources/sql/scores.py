"""Reading a table of scores: the database adds up, by the time of the request or of the score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    null,
    select,
    table,
    text,
)

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.score_table import Score, Scores
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.time_column import TimeColumn


@dataclass(slots=True)
class _Cell:
    """One metric of one version and slice in one bucket."""

    total: float = 0.0
    count: int = 0
    judges: set[str] = field(default_factory=set)


class ScoreReading:
    """Asks a table of scores for what requests need, whatever the number of metrics, slices and versions.

    :param layout: the table and its columns; names are quoted by the dialect, values are bound.
    :param metrics: descriptions: what a metric is, and which of both times decides where a score counts.
    :param dialect: name of the SQLAlchemy dialect.
    """

    def __init__(self, layout: Scores, metrics: Mapping[str, Metric], dialect: str) -> None:
        self._layout = layout
        self._metrics = metrics
        self._dialect = dialect

    def gives(self, series: str) -> bool:
        """Whether ``series`` is made of scores."""
        return self._layout.gives(series.partition(":")[0])

    def statements(self, requests: Sequence[SeriesRequest]) -> list[Select[Any]]:
        """Return the statements for ``requests``, which differ in their versions only: one for each time."""
        wanted = sorted({series.partition(":")[0] for series in requests[0].series})
        by_time: dict[str, list[str]] = defaultdict(list)
        for metric in wanted:
            by_time[self._time_of(metric)].append(metric)
        return [self._statement(requests, time, metrics) for time, metrics in by_time.items()]

    def samples(self, requests: Sequence[SeriesRequest], rows: Sequence[Row[Any]]) -> list[list[Sample]]:
        """Return the samples of each of ``requests`` from the rows of one of :meth:`statements`."""
        cells: dict[tuple[str, str], dict[int, _Cell]] = defaultdict(dict)
        for row in rows:
            self._add(cells, row._asdict())
        return [self._samples(request, cells) for request in requests]

    def _time_of(self, metric: str) -> str:
        if self._metrics.get(metric, Metric()).bucket_by is BucketBy.EVENT:
            return self._layout.time
        if self._layout.arrived is None:
            raise SourceError(
                f"metrics.{metric} has `bucket_by: arrival`: name the column with the time at which a score "
                "came as `source.scores.arrived`",
                transient=False,
            )
        return self._layout.arrived

    def _statement(self, requests: Sequence[SeriesRequest], time: str, metrics: Sequence[str]) -> Select[Any]:
        layout, first = self._layout, requests[0]
        at = TimeColumn(time, layout.time_type, self._dialect == "sqlite")
        versions = sorted({one for request in requests for one in (request.release, request.baseline)})
        version: ColumnElement[Any] = column(layout.version)
        groups: dict[str, ColumnElement[Any]] = {"bucket": at.bucket(first.step), "version": version}
        slices = sorted({slice_ for series in first.series if (slice_ := series.partition(":")[2])})
        if slices and layout.slice is not None:
            said = cast(column(layout.slice), String)
            groups["slice"] = case((said.in_(slices), said), else_=null())
        for place, judge in enumerate(layout.judge):
            groups[f"judge_{place}"] = cast(column(judge), String)
        name: ColumnElement[Any] = column(layout.name)
        made_of = {metric: layout.metrics[metric] for metric in metrics}
        values = {
            metric: case((name == (score.score or metric), self._value(score)), else_=null())
            for metric, score in made_of.items()
        }
        labels = {metric: f"m{place}" for place, metric in enumerate(sorted(layout.metrics))}
        names = sorted({score.score or metric for metric, score in made_of.items()})
        conditions = [cast(column(key), String) == value for key, value in layout.where.items()]
        rows = (
            select(
                *(value.label(label) for label, value in groups.items()),
                *(value.label(labels[metric]) for metric, value in values.items()),
            )
            .select_from(self._rows())
            .where(
                and_(version.in_(versions), name.in_(names), at.within(first.start, first.end), *conditions)
            )
            .subquery("score")
        )
        keys = [rows.c[label] for label in groups]
        totals = [
            aggregate(rows.c[labels[metric]]).label(f"{how}_{labels[metric]}")
            for metric in metrics
            for how, aggregate in (("sum", func.sum), ("count", func.count))
        ]
        return select(*keys, *totals).group_by(*keys)

    def _rows(self) -> FromClause:
        layout = self._layout
        if layout.query is not None:
            return text(layout.query.strip().rstrip(";")).columns().subquery("given")
        schema, _, name = (layout.table or "").rpartition(".")
        return table(name, schema=schema or None)

    def _value(self, score: Score) -> ColumnElement[Any]:
        """Return what a row counts as: its score, or 1 or 0 for whether it passes; NULL is not scored yet."""
        layout = self._layout
        if score.among:
            label = cast(column(layout.label or ""), String)
            return case((label.is_(None), null()), (label.in_(score.among), 1.0), else_=0.0)
        stored: ColumnElement[Any] = column(layout.score)
        if layout.score_type == "boolean":
            stored = cast(stored, Integer)
        value: ColumnElement[Any] = cast(stored, Double)
        if self._dialect == "postgresql":
            # There NaN is a number, above all others.
            value = func.nullif(value, cast(literal("NaN"), Double))
        if score.passes_at is None:
            return value
        return case((value.is_(None), null()), (value >= literal(score.passes_at, Double), 1.0), else_=0.0)

    def _add(self, cells: dict[tuple[str, str], dict[int, _Cell]], row: Mapping[str, Any]) -> None:
        """Add one group, to all scores of its version and to its slice."""
        said = [row[f"judge_{place}"] for place in range(len(self._layout.judge))]
        judge = " ".join(str(part) for part in said if part)
        for place, metric in enumerate(sorted(self._layout.metrics)):
            if not row.get(f"count_m{place}"):
                continue
            for slice_ in {"", row.get("slice") or ""}:
                series = f"{metric}:{slice_}" if slice_ else metric
                cell = cells[str(row["version"]), series].setdefault(int(row["bucket"]), _Cell())
                cell.total += float(row[f"sum_m{place}"])
                cell.count += int(row[f"count_m{place}"])
                if judge:
                    cell.judges.add(judge)

    def _samples(
        self, request: SeriesRequest, cells: Mapping[tuple[str, str], Mapping[int, _Cell]]
    ) -> list[Sample]:
        step: timedelta = request.step
        found: list[Sample] = []
        for series in request.series:
            metric = self._metrics.get(series.partition(":")[0], Metric())
            for version in (request.release, request.baseline):
                for bucket, cell in cells.get((version, series), {}).items():
                    time = datetime.fromtimestamp(bucket * step.total_seconds(), UTC)
                    value = cell.total if metric.kind is MetricKind.COUNT else cell.total / cell.count
                    judge = " and ".join(sorted(cell.judges)) or None
                    found.append(Sample(time, series, version, value, float(cell.count), judge=judge))
        return found
