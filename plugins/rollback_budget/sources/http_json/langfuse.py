"""Langfuse's metrics API, as requests of the ``http_json`` source.

As documented at https://langfuse.com/docs/metrics/features/metrics-api: rows are grouped by the minute (or
hour) that they begin in, their fields are called ``<aggregation>_<measure>``, and there are 100 at most
without ``config.row_limit``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rollback_budget.exceptions import SourceError
from rollback_budget.model.json_api import JsonRequest, JsonSeries, LangfuseQueries, LangfuseQuery

_GRANULARITIES = {timedelta(minutes=1): "minute", timedelta(hours=1): "hour"}
_PATHS = {"v1": "/api/public/metrics", "v2": "/api/public/v2/metrics"}


def requests_of(langfuse: LangfuseQueries, step: timedelta) -> tuple[JsonRequest, ...]:
    """Return one request for each query; raises SourceError for a step that Langfuse does not have."""
    granularity = _GRANULARITIES.get(step)
    if granularity is None:
        raise SourceError("Langfuse groups by minute or by hour; set watch.step to 1m or 1h", transient=False)
    # Both versions, rows that Langfuse fills holes with, and the minute that its inclusive end begins.
    steps = max((langfuse.row_limit - 1) // 3 - 1, 1)
    return tuple(
        JsonRequest(
            path=_PATHS[langfuse.api],
            query={"query": _query(query, granularity, langfuse.row_limit)},
            points="data",
            time="time_dimension",
            time_format="iso_utc",
            label="start",
            version=query.dimension,
            series={
                name: JsonSeries(
                    value=f"{measure.aggregation}_{measure.measure}", n="count_count", scale=measure.scale
                )
                for name, measure in query.series.items()
            },
            longest=steps * step,
            full_at=langfuse.row_limit,
        )
        for query in langfuse.queries
    )


def _query(query: LangfuseQuery, granularity: str, row_limit: int) -> dict[str, Any]:
    wanted = {("count", "count")} | {(each.measure, each.aggregation) for each in query.series.values()}
    of_both = {
        "column": query.dimension,
        "operator": "any of",
        "value": ["$release", "$baseline"],
        "type": "stringOptions",
    }
    return {
        "view": query.view,
        "dimensions": [{"field": query.dimension}],
        "metrics": [{"measure": measure, "aggregation": how} for measure, how in sorted(wanted)],
        "filters": [*query.filters, of_both],
        "timeDimension": {"granularity": granularity},
        "fromTimestamp": "$start",
        "toTimestamp": "$end",
        "config": {"row_limit": row_limit},
    }
