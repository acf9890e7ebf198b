"""Langfuse's metrics API, as requests of the ``http_json`` source.

As documented at https://langfuse.com/docs/metrics/features/metrics-api: rows are grouped by the minute (or
hour) that they begin in, their fields are called ``<aggregation>_<measure>``, and there are 100 at most
without ``config.row_limit``. Scores lie where their own timestamp does: by default that is when they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.json_api import JsonRequest, JsonSeries, LangfuseQueries, LangfuseQuery
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_json.json_samples import PointReader
from rollback_budget.sources.http_json.source import JsonApi
from rollback_budget.transport.async_client import AsyncHttpClient

#: What Langfuse can group by.
GRANULARITIES = {timedelta(minutes=1): "minute", timedelta(hours=1): "hour"}
_PATHS = {"v1": "/api/public/metrics", "v2": "/api/public/v2/metrics"}
_COUNT = "count_count"
_CATEGORY = "stringValue"
#: More categories than this of one score may make a page full, which is an error.
MOST_CATEGORIES = 10


class LangfuseMetrics:
    """Asks Langfuse in the granularity of each request.

    :param client: of a connection whose login and password are the public and the secret key.
    :param timeout: for one request.
    """

    def __init__(self, langfuse: LangfuseQueries, client: AsyncHttpClient, timeout: timedelta) -> None:
        self._langfuse = langfuse
        self._client = client
        self._timeout = timeout
        self._by_step: dict[timedelta, JsonApi] = {}

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        api = self._by_step.get(request.step)
        if api is None:
            readers = readers_of(self._langfuse, request.step)
            api = self._by_step[request.step] = JsonApi(readers, self._client, self._timeout)
        return await api.fetch(request)


class CategoryReader(PointReader):
    """Reads counts by category, and gives the share of the categories that a metric names."""

    def __init__(self, json_request: JsonRequest, place: str, query: LangfuseQuery) -> None:
        super().__init__(json_request, place)
        self._query = query

    def samples(self, document: Any, request: SeriesRequest, version: str | None) -> list[Sample]:
        """Return the samples of ``document`` that lie in ``request``; raises :class:`SourceError`."""
        counts: dict[tuple[datetime, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for time, whose, point in self.points(document, request, version):
            count, category = self.number(_COUNT, point), self.name(_CATEGORY, point)
            if category is not None and count == count:
                counts[time, whose][category] += count
        found = []
        for (time, whose), by_category in counts.items():
            total = sum(by_category.values())
            for series, measure in self._query.series.items():
                if series in request.series and total > 0.0:
                    share = sum(by_category.get(category, 0.0) for category in measure.among) / total
                    found.append(Sample(time, series, whose, measure.scale * share, total))
        return found


def readers_of(langfuse: LangfuseQueries, step: timedelta) -> list[PointReader]:
    """Return a reader for each query; raises SourceError for a step that Langfuse does not have."""
    readers: list[PointReader] = []
    for at, (query, asked) in enumerate(zip(langfuse.queries, requests_of(langfuse, step), strict=True)):
        place = f"source.langfuse.queries[{at}]"
        readers.append(
            CategoryReader(asked, place, query) if query.is_by_category else PointReader(asked, place)
        )
    return readers


def requests_of(langfuse: LangfuseQueries, step: timedelta) -> tuple[JsonRequest, ...]:
    """Return one request for each query; raises SourceError for a step that Langfuse does not have."""
    granularity = GRANULARITIES.get(step)
    if granularity is None:
        raise SourceError(
            "Langfuse groups by minute or by hour; set the metric's `every`, or watch.step, to 1m or 1h",
            transient=False,
        )
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
                    value=f"{measure.aggregation}_{measure.measure}", n=_COUNT, scale=measure.scale
                )
                for name, measure in query.series.items()
            },
            longest=_steps_of(query, langfuse.row_limit) * step,
            full_at=langfuse.row_limit,
        )
        for query in langfuse.queries
    )


def _steps_of(query: LangfuseQuery, row_limit: int) -> int:
    """Return how many steps are asked for at once, so that a page holds them.

    Both versions have a row each (by category: one for each category), Langfuse fills holes with another, and
    its inclusive end begins one more step.
    """
    rows = 2 * MOST_CATEGORIES + 1 if query.is_by_category else 3
    return max((row_limit - 1) // rows - 1, 1)


def _query(query: LangfuseQuery, granularity: str, row_limit: int) -> dict[str, Any]:
    wanted = {("count", "count")} | {(each.measure, each.aggregation) for each in query.series.values()}
    of_both = {
        "column": query.dimension,
        "operator": "any of",
        "value": ["$release", "$baseline"],
        "type": "stringOptions",
    }
    fields = [query.dimension, *([_CATEGORY] if query.is_by_category else [])]
    return {
        "view": query.view,
        "dimensions": [{"field": field} for field in fields],
        "metrics": [{"measure": measure, "aggregation": how} for measure, how in sorted(wanted)],
        "filters": [*query.filters, of_both],
        "timeDimension": {"granularity": granularity},
        "fromTimestamp": "$start",
        "toTimestamp": "$end",
        "config": {"row_limit": row_limit},
    }
