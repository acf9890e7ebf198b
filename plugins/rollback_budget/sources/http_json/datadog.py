"""Datadog's timeseries API: one request for all metrics and both versions.

As documented at https://docs.datadoghq.com/api/latest/metrics/query-timeseries-data-across-multiple-products/
``from`` is inclusive and ``to`` exclusive, points are named by the beginning of their interval, and that "may
be overridden by a larger interval" without a word in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import gcd, nan
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.duration import write_duration
from rollback_budget.model.json_api import DatadogQueries
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.sources.resilience.chunking import all_of, parts_of
from rollback_budget.transport.async_client import AsyncHttpClient

PATH = "/api/v2/query/timeseries"
#: Steps in one request: few enough that Datadog has no reason to enlarge the interval.
MOST_STEPS = 600
#: So many times in a row that are all a multiple apart are no accident.
ENOUGH_TIMES = 5

_NOT_IN_TAGS = re.compile(r"[^\w\-:./]")


class DatadogTimeseries:
    """Asks for formulas over queries that are grouped by the version's tag.

    :param client: of a connection whose headers hold ``DD-API-KEY`` and ``DD-APPLICATION-KEY``.
    :param timeout: for one request.
    """

    def __init__(self, queries: DatadogQueries, client: AsyncHttpClient, timeout: timedelta) -> None:
        self._queries = queries
        self._client = client
        self._timeout = timeout

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        names = [name for name in request.series if name in self._queries.series]
        if not names:
            return []
        parts = parts_of(request, MOST_STEPS * request.step)
        answers = await all_of([self._query(names, part) for part in parts])
        return [sample for samples in answers for sample in samples]

    async def _query(self, names: list[str], request: SeriesRequest) -> list[Sample]:
        formulas = self._formulas(names)
        body = self._body(formulas, request)
        response = await send_request(self._client, "POST", PATH, body=body, timeout=self._timeout)
        document = read_json(response, f"Datadog (POST {PATH})")
        try:
            if document.get("errors"):
                raise SourceError(f"Datadog: {str(document['errors'])[:300]}", transient=True)
            attributes = document["data"]["attributes"]
            times = [_time(at) for at in attributes["times"] or ()]
            series = [
                (each["query_index"], list(each.get("group_tags") or ()), values)
                for each, values in zip(attributes["series"] or (), attributes["values"] or (), strict=True)
            ]
            check_interval(times, request)
            return list(self._samples(names, formulas, times, series, request))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise SourceError(
                f"Datadog answered in another form than documented ({error!r}): {str(document)[:200]}",
                transient=False,
            ) from error

    def _formulas(self, names: list[str]) -> list[str]:
        wanted = [self._queries.series[name] for name in names]
        return sorted({formula for each in wanted for formula in (each.value, each.n) if formula is not None})

    def _body(self, formulas: list[str], request: SeriesRequest) -> dict[str, Any]:
        words = set(re.findall(r"\w+", " ".join(formulas)))
        return {
            "data": {
                "type": "timeseries_request",
                "attributes": {
                    "from": round(request.start.timestamp() * 1000),
                    "to": round(request.end.timestamp() * 1000),
                    "interval": round(request.step.total_seconds() * 1000),
                    "queries": [
                        {"data_source": "metrics", "name": name, "query": query}
                        for name, query in self._queries.queries.items()
                        if name in words
                    ],
                    "formulas": [{"formula": formula} for formula in formulas],
                },
            }
        }

    def _samples(
        self,
        names: list[str],
        formulas: list[str],
        times: list[datetime],
        series: list[tuple[int, list[str], list[float | None]]],
        request: SeriesRequest,
    ) -> Iterator[Sample]:
        found: dict[tuple[str, str], dict[datetime, float]] = {}
        versions = self._versions(request)
        for index, tags, values in series:
            version = next((versions[tag] for tag in tags if tag in versions), None)
            if version is None:
                continue
            if (formulas[index], version) in found:
                raise SourceError(
                    f"Datadog gives {formulas[index]} twice for {version}: group its queries by "
                    f"{self._queries.version_tag} and by nothing else",
                    transient=False,
                )
            numbers = [nan if value is None else float(value) for value in values]
            found[formulas[index], version] = dict(zip(times, numbers, strict=True))
        for name in names:
            wanted = self._queries.series[name]
            for version in (request.release, request.baseline):
                counts = found.get((wanted.n or "", version), {})
                for time, value in found.get((wanted.value, version), {}).items():
                    n = counts.get(time, nan)
                    ends = time + request.step
                    if request.start < ends <= request.end:
                        yield Sample(ends, name, version, value, n if n == n else None)

    def _versions(self, request: SeriesRequest) -> dict[str, str]:
        versions = {
            f"{self._queries.version_tag}:{tag_value(version)}": version
            for version in (request.release, request.baseline)
        }
        if len(versions) < 2:
            raise SourceError(
                f"{request.release} and {request.baseline} are the same tag for Datadog, which writes tags "
                "in lower case and without special characters; name one of them otherwise",
                transient=False,
            )
        return versions


def tag_value(text: str) -> str:
    """Return ``text`` as Datadog keeps it in a tag: lower case, other characters as single underscores."""
    return re.sub(r"_+", "_", _NOT_IN_TAGS.sub("_", text.lower())).rstrip("_")[:200]


def check_interval(times: list[datetime], request: SeriesRequest) -> None:
    """Raise :class:`SourceError` where the times cannot be those of the interval that was asked for."""
    step = round(request.step.total_seconds() * 1000)
    offsets = sorted({round((time - request.start).total_seconds() * 1000) for time in times})
    apart = gcd(*(later - earlier for earlier, later in pairwise(offsets)))
    is_off = any(offset % step for offset in offsets)
    if is_off or (len(offsets) >= ENOUGH_TIMES and apart > step):
        interval = f"of {write_duration(timedelta(milliseconds=apart))}" if apart else "of another grid"
        raise SourceError(
            f"Datadog answered in intervals {interval} where {write_duration(request.step)} was asked for; "
            "take the rollup out of the queries, or set the metric's `every` (or watch.step) to that",
            transient=False,
        )


def _time(said: Any) -> datetime:
    return datetime.fromtimestamp(said / 1000, UTC)
