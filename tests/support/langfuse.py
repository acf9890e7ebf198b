"""Langfuse's metrics API v2 over scores, as its reference documents it; nothing else of Langfuse.

A query is refused with 400 where it names a view, dimension, measure, aggregation, filter or granularity that
the reference does not list. Rows are cut at ``config.row_limit``, without which there are 100, and numbers
are text, as ClickHouse sends them. Read in August 2026 from https://api.reference.langfuse.com and from
``web/src/features/query`` of https://github.com/langfuse/langfuse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

DIMENSIONS = frozenset(
    (
        *("environment", "name", "source", "dataType", "configId", "timestampMonth", "timestampDay"),
        *("traceName", "tags", "traceRelease", "traceVersion", "observationName", "observationModelName"),
        *("observationPromptName", "observationPromptVersion"),
    )
)
VIEWS: dict[str, tuple[frozenset[str], frozenset[tuple[str, str]]]] = {
    "scores-numeric": (
        DIMENSIONS | {"value"},
        frozenset(
            [("count", "count")]
            + [("value", how) for how in ("sum", "avg", "count", "max", "min", "p50", "p95")]
        ),
    ),
    "scores-categorical": (DIMENSIONS | {"stringValue"}, frozenset([("count", "count")])),
}
STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


class StoredScore(NamedTuple):
    """A score; a boolean one has 0 or 1 as its value, a categorical one a text."""

    timestamp: datetime
    name: str
    value: float | str
    version: str | None


class RefusedError(ValueError):
    """What Langfuse answers 400 to."""


def metrics(query: dict[str, Any], scores: Iterable[StoredScore]) -> dict[str, Any]:
    """Return the document that answers ``query``; raises RefusedError."""
    dimensions, measures = VIEWS.get(query["view"], (frozenset(), frozenset()))
    fields = [each["field"] for each in query["dimensions"]]
    wanted = [(each["measure"], each["aggregation"]) for each in query["metrics"]]
    granularity = query["timeDimension"]["granularity"]
    if not set(fields) <= dimensions or not set(wanted) <= measures or granularity not in STEPS:
        raise RefusedError(f"not in the view {query['view']}: {fields}, {wanted}, {granularity}")
    first, last = (datetime.fromisoformat(query[key]) for key in ("fromTimestamp", "toTimestamp"))
    groups: dict[tuple[Any, ...], list[float | str]] = defaultdict(list)
    for score in scores:
        of_score = {"name": score.name, "traceVersion": score.version, "stringValue": score.value}
        is_text = isinstance(score.value, str)
        in_view = is_text is (query["view"] == "scores-categorical") and first <= score.timestamp <= last
        if in_view and all(_passes(condition, of_score, dimensions) for condition in query["filters"]):
            step = STEPS[granularity].total_seconds()
            at = datetime.fromtimestamp(score.timestamp.timestamp() // step * step, score.timestamp.tzinfo)
            groups[(at, *(of_score[field] for field in fields))].append(score.value)
    rows = []
    for (at, *said), values in sorted(groups.items(), key=repr):
        row = {"time_dimension": f"{at:%Y-%m-%dT%H:%M:%SZ}", **dict(zip(fields, said, strict=True))}
        for measure, how in wanted:
            row[f"{how}_{measure}"] = str(_aggregated(how, values))
        rows.append(row)
    return {"data": rows[: query.get("config", {}).get("row_limit", 100)]}


def _passes(condition: dict[str, Any], score: dict[str, Any], dimensions: frozenset[str]) -> bool:
    column, value = condition["column"], condition["value"]
    if column not in dimensions:
        raise RefusedError(f"no column {column}")
    match condition["type"], condition["operator"]:
        case "string", "=":
            return bool(score[column] == value)
        case "stringOptions", "any of":
            return score[column] in value
    raise RefusedError(f"no filter {condition}")


def _aggregated(how: str, values: list[Any]) -> float:
    if how == "count":
        return len(values)
    if how == "avg":
        return sum(values) / len(values)
    raise RefusedError(f"this stand-in has no {how}")
