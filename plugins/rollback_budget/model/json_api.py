"""What the ``http_json`` source queries, and where in the answers the samples stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.base import added_later
from rollback_budget.model.json_request import not_jmespath, not_json, request_mistakes, texts_of
from rollback_budget.model.mistake import Mistake, mistake, quote
from rollback_budget.model.section import Section
from rollback_budget.model.source_settings import SourceSettings

PLACEHOLDERS = (
    *("$start", "$end", "$start_s", "$end_s", "$start_ms", "$end_ms", "$step_s", "$step_ms"),
    *("$release", "$baseline", "$version"),
)
_LANGFUSE_ROWS = 1000


class JsonSeries(Section):
    """Where a metric stands in a point. All but ``scale`` are JMESPath, from the point.

    :param value: the value; null, NaN and nothing are unknown.
    :param n: number of events behind the value.
    :param divided_by: what the value is divided by (before ``scale``); by zero is unknown.
    :param le: upper bound, for cumulative histogram buckets.
    :param scale: what the value is multiplied with, such as 0.001 from milliseconds to seconds.
    :param judge: what scored the value, for scores of a judge.
    """

    value: str = Field(examples=["value"])
    n: str | None = None
    divided_by: str | None = None
    le: str | None = None
    scale: float = 1.0
    judge: str | None = added_later(None)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is no JMESPath."""
        yield from super().mistakes(data)
        yield from not_jmespath(data, ("value", "n", "divided_by", "le", "judge"))


class JsonRequest(Section):
    """One request, and how to read its answer.

    Whole strings in ``path`` (between slashes), ``query`` and ``body`` that name a placeholder are replaced
    by data. With ``$version`` in it the request is sent once for each version.

    :param query: parameters of the URL; a mapping or a list as a value is sent as JSON.
    :param body: sent as JSON.
    :param points: JMESPath to the list of points.
    :param time: JMESPath to the time of a point; ``iso_utc`` takes a time without a zone for UTC.
    :param label: which end of its bucket a time names.
    :param version: JMESPath to the version of a point; left out where ``$version`` was asked for.
    :param metric: JMESPath to the name of the metric, where the points say it; ``each`` is then its value.
    :param series: values by metric (``metric:slice`` for a slice).
    :param longest: the longest range that one request may ask for.
    :param full_at: so many points are a full page, from which some are missing: an error.
    """

    positive: ClassVar[tuple[str, ...]] = ("longest",)

    method: Literal["GET", "POST"] = "GET"
    path: str = Field(examples=["/api/v1/series"])
    query: dict[str, Any] = Field(default_factory=dict)
    body: Any = None
    points: str = Field(examples=["data"])
    time: str = "time"
    time_format: Literal["iso", "iso_utc", "epoch_s", "epoch_ms"] = "iso"
    label: Literal["start", "end"] = "end"
    version: str | None = None
    metric: str | None = None
    each: JsonSeries | None = None
    series: Mapping[str, JsonSeries] = Field(default_factory=dict)
    longest: timedelta | None = None
    full_at: int | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield unknown placeholders, broken JMESPath, and points that say too little or too much."""
        yield from super().mistakes(data)
        yield from not_jmespath(data, ("points", "time", "version", "metric"))
        yield from request_mistakes(data, PLACEHOLDERS)
        path = data.get("path")
        asked = texts_of(
            (path.split("/") if isinstance(path, str) else (), data.get("query"), data.get("body"))
        )
        if ("version" in data) == ("$version" in asked):
            yield mistake(
                ("version",) if "version" in data else (),
                "say whose points these are either by `version:` (JMESPath, from a point) or by asking for "
                "`$version`, one request for each version",
            )
        if ("metric" in data) != ("each" in data):
            yield mistake((), "`metric` (its name in a point) and `each` (its value there) go together")
        if ("series" in data) == ("metric" in data):
            yield mistake((), "a request has either `series` or `metric` with `each`")
        if "full_at" in data and (cls.peek(data, "full_at") or 0) < 1:
            yield mistake(("full_at",), "`full_at` is a number of points, 1 or more")


class DatadogSeries(Section):
    """Formulas over the named queries: the value, and the number of events behind it."""

    value: str = Field(examples=["errors / requests"])
    n: str | None = None


class DatadogQueries(Section):
    """Datadog's timeseries API, version 2: one request for all metrics and both versions.

    :param version_tag: the tag that distinguishes versions; every query is grouped by it and by nothing else.
    :param queries: metric queries by name.
    :param series: formulas by metric (``metric:slice`` for a slice).
    """

    version_tag: str = "version"
    queries: dict[str, str] = Field(examples=["{requests: 'sum:...{*} by {version}.as_count()'}"])
    series: Mapping[str, DatadogSeries] = Field(examples=["{error_rate: {value: errors / requests}}"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield queries that do not distinguish versions, and formulas without a query."""
        yield from super().mistakes(data)
        tag, queries, series = (data.get(key) for key in ("version_tag", "queries", "series"))
        tag = cls.model_fields["version_tag"].default if tag is None else tag
        if not isinstance(queries, dict) or not isinstance(tag, str):
            return
        grouped = re.compile(rf"by\s*\{{\s*{re.escape(tag)}\s*\}}")
        for name, query in queries.items():
            if isinstance(query, str) and not grouped.search(query):
                wanted = f"must be grouped by the version and nothing else: add `by {{{tag}}}`"
                yield mistake(("queries", name), f"{quote(name)} {wanted}")
        for metric, formulas in series.items() if isinstance(series, dict) else ():
            for key in ("value", "n"):
                formula = formulas.get(key) if isinstance(formulas, dict) else None
                if isinstance(formula, str) and not queries.keys() & set(re.findall(r"\w+", formula)):
                    known = ", ".join(queries)
                    yield mistake(("series", metric, key), f"`{key}` uses none of the queries ({known})")


class LangfuseMeasure(Section):
    """A measure of a view, and how it is aggregated.

    :param among: for ``scores-categorical`` instead of these: the share of scores of one of these categories.
    """

    measure: str = Field(examples=["latency"])
    aggregation: Literal["sum", "avg", "count", "max", "min", "p50", "p75", "p90", "p95", "p99"]
    scale: float = 1.0
    among: tuple[str, ...] = added_later((), examples=["[correct]"])

    @classmethod
    def missing(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is missing; categories are counted, and nothing else."""
        if "among" not in data:
            yield from super().missing(data)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a measure beside categories."""
        yield from super().mistakes(data)
        for key in ("measure", "aggregation"):
            if "among" in data and key in data:
                yield mistake((key,), f"`{key}` means nothing beside `among`; remove it", "key")

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Count the scores where categories are named."""
        counted = {"measure": "count", "aggregation": "count"} if "among" in data else {}
        return {**counted, **super().arrange(data)}


class LangfuseQuery(Section):
    """One query of Langfuse's metrics API.

    :param version: the dimension that holds the version; by default that of the view.
    :param filters: conditions as Langfuse takes them: column, operator, value, type, key.
    :param series: measures by metric (``metric:slice`` for a slice).
    """

    view: Literal["observations", "scores-numeric", "scores-categorical", "traces"] = "observations"
    version: str | None = None
    filters: tuple[dict[str, Any], ...] = ()
    series: Mapping[str, LangfuseMeasure] = Field(
        examples=["{p95: {measure: latency, aggregation: p95, scale: 0.001}}"]
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield filters that JSON cannot carry, and categories where there are none."""
        yield from super().mistakes(data)
        yield from not_json(data.get("filters"), ("filters",))
        series = data.get("series")
        measures = series.items() if isinstance(series, dict) else ()
        among = {name: isinstance(measure, dict) and "among" in measure for name, measure in measures}
        categorical = data.get("view") == "scores-categorical"
        for name, has_among in among.items():
            if has_among and not categorical:
                yield mistake(("series", name), "`among` is for `view: scores-categorical`")
            elif not has_among and categorical and any(among.values()):
                why = "beside metrics with `among` there are only such; make it a query of its own"
                yield mistake(("series", name), why)

    @property
    def is_by_category(self) -> bool:
        """Whether its metrics are shares of categories."""
        return any(measure.among for measure in self.series.values())

    @property
    def dimension(self) -> str:
        """The dimension that holds the version."""
        return self.version or ("traceVersion" if self.view.startswith("scores") else "version")


class LangfuseQueries(Section):
    """Langfuse's metrics API: one request for each query.

    :param api: v2, or v1 for a server that does not have it.
    :param row_limit: always sent, because the server's own is 100; a full page is an error.
    """

    api: Literal["v1", "v2"] = "v2"
    row_limit: int = _LANGFUSE_ROWS
    queries: tuple[LangfuseQuery, ...] = Field(examples=["[{view: observations, series: {...}}]"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a limit that Langfuse does not take, and views that its version does not have."""
        yield from super().mistakes(data)
        limit = cls.peek(data, "row_limit")
        if limit is not None and not 10 <= limit <= _LANGFUSE_ROWS:
            yield mistake(
                ("row_limit",), f"`row_limit` is from 10 to {_LANGFUSE_ROWS}, Langfuse's own maximum"
            )
        queries, api = data.get("queries"), data.get("api", cls.model_fields["api"].default)
        for at, query in enumerate(queries if isinstance(queries, list) else ()):
            if isinstance(query, dict) and query.get("view") == "traces" and api == "v2":
                why = "v2 has no traces: take `observations`, or `api: v1`"
                yield mistake(("queries", at, "view"), why)


class HttpJsonSource(SourceSettings):
    """Any API that answers JSON, behind an Airflow ``http`` connection.

    Exactly one of ``requests``, ``datadog`` and ``langfuse`` says what is asked.

    :param timeout: for one request.
    :param late: how far back every poll reads again, to report what came late.
    """

    positive: ClassVar[tuple[str, ...]] = ("timeout",)

    type: Literal["http_json"] = "http_json"
    conn_id: str = Field(examples=["metrics_api"])
    requests: tuple[JsonRequest, ...] = ()
    datadog: DatadogQueries | None = None
    langfuse: LangfuseQueries | None = None
    timeout: timedelta = timedelta(seconds=20)
    late: timedelta = timedelta(minutes=5)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield several things to ask, or none."""
        yield from super().mistakes(data)
        ways = [key for key in ("requests", "datadog", "langfuse") if data.get(key)]
        if not ways:
            yield mistake((), "say what to ask: `requests`, or `datadog` or `langfuse`")
        for other in ways[1:]:
            yield mistake((other,), f"`{other}` and `{ways[0]}` both say what to ask; keep one", "key")

    @property
    def metrics(self) -> frozenset[str] | None:
        """The names under which series can be read; None when the points say it themselves."""
        if self.datadog is not None:
            return frozenset(self.datadog.series)
        if self.langfuse is not None:
            return frozenset(name for query in self.langfuse.queries for name in query.series)
        if any(request.metric is not None for request in self.requests):
            return None
        return frozenset(name for request in self.requests for name in request.series)
