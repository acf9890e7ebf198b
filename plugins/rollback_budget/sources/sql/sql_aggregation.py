"""What one bucket of one version and slice adds up to, and the samples that follow from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, nan
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.model.sql_table import ROLES, Aggregate, RequestLog, is_quantile
from rollback_budget.sources.base import SeriesRequest

#: The role that is counted over all requests; the others are means over the requests that have a value.
_COUNTED = "incident"


@dataclass(slots=True)
class _Cell:
    rows: float = 0.0
    requests: float = 0.0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    quantiles: dict[str, float] = field(default_factory=dict)
    by_bound: dict[int, float] = field(default_factory=lambda: defaultdict(float))


class SqlAggregation:
    """Collects the groups of one statement.

    :param bounds: of the latency histogram; a row's ``le`` is a place in it, or one beyond.
    """

    def __init__(self, layout: RequestLog | Aggregate, bounds: Sequence[float]) -> None:
        self._layout = layout
        self._bounds = (*bounds, inf)
        self._cells: dict[tuple[str, str], dict[int, _Cell]] = defaultdict(dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one group, to all requests of its version and to its slice."""
        for slice_ in {"", row.get("slice") or ""}:
            cell = self._cells[str(row["version"]), slice_].setdefault(int(row["bucket"]), _Cell())
            cell.rows += row["total"]
            cell.requests += float(row.get("requests", row["total"]) or 0.0)
            for role in ROLES.values():
                if f"sum_{role}" in row:
                    cell.sums[role] += float(row[f"sum_{role}"] or 0.0)
                    cell.counts[role] += row[f"count_{role}"]
            if isinstance(self._layout, Aggregate):
                for metric in self._layout.quantiles.keys() & row.keys():
                    known = row[metric] is not None and cell.rows == 1
                    cell.quantiles[metric] = float(row[metric]) if known else nan
            if row.get("le") is not None:
                cell.by_bound[row["le"]] += row["total"]

    def samples(self, request: SeriesRequest) -> list[Sample]:
        """Return the samples of ``request``."""
        step = request.step.total_seconds()
        found: list[Sample] = []
        for series in request.series:
            metric, _, slice_ = series.partition(":")
            for version in (request.release, request.baseline):
                for bucket, cell in self._cells.get((version, slice_), {}).items():
                    time = datetime.fromtimestamp(bucket * step, UTC)
                    for value, n, le in self._values(metric, cell):
                        found.append(Sample(time, series, version, value, n, le))
        return found

    def _values(self, metric: str, cell: _Cell) -> Iterator[tuple[float, float | None, float | None]]:
        role = ROLES.get(metric)
        if metric in cell.quantiles:
            yield cell.quantiles[metric], cell.requests, None
        elif role == _COUNTED and role in cell.sums:
            yield cell.sums[role], cell.requests, None
        elif role in cell.sums:
            n = cell.counts[role] if isinstance(self._layout, RequestLog) else cell.requests
            if n > 0.0:
                yield (cell.sums[role] / n if cell.counts[role] else nan), n, None
        elif cell.by_bound and is_quantile(metric):
            below = 0.0
            for place, bound in enumerate(self._bounds):
                below += cell.by_bound.get(place, 0.0)
                yield below, below if bound == inf else None, bound
