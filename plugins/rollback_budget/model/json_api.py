"""What the ``http_json`` source asks, and where in the answers the samples stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from rollback_budget.model.base import Frozen


class JsonSeries(Frozen):
    """Where a metric stands in a point. All but ``scale`` are JMESPath, from the point.

    :param value: the value; null, NaN and nothing are unknown.
    :param n: number of events behind the value.
    :param divided_by: what the value is divided by (before ``scale``); by zero is unknown.
    :param le: upper bound, for cumulative histogram buckets.
    :param scale: what the value is multiplied with, such as 0.001 from milliseconds to seconds.
    """

    value: str
    n: str | None = None
    divided_by: str | None = None
    le: str | None = None
    scale: float = 1.0


class JsonRequest(Frozen):
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

    method: Literal["GET", "POST"] = "GET"
    path: str
    query: dict[str, Any] = Field(default_factory=dict)
    body: Any = None
    points: str
    time: str = "time"
    time_format: Literal["iso", "iso_utc", "epoch_s", "epoch_ms"] = "iso"
    label: Literal["start", "end"] = "end"
    version: str | None = None
    metric: str | None = None
    each: JsonSeries | None = None
    series: Mapping[str, JsonSeries] = Field(default_factory=dict)
    longest: timedelta | None = None
    full_at: int | None = None


class DatadogSeries(Frozen):
    """Formulas over the named queries: the value, and the number of events behind it."""

    value: str
    n: str | None = None


class DatadogQueries(Frozen):
    """Datadog's timeseries API, version 2: one request for all metrics and both versions.

    :param version_tag: the tag that tells versions apart; every query is grouped by it and by nothing else.
    :param queries: metric queries by name.
    :param series: formulas by metric (``metric:slice`` for a slice).
    """

    version_tag: str = "version"
    queries: dict[str, str]
    series: Mapping[str, DatadogSeries]


class LangfuseMeasure(Frozen):
    """A measure of a view, and how it is aggregated."""

    measure: str
    aggregation: Literal["sum", "avg", "count", "max", "min", "p50", "p75", "p90", "p95", "p99"]
    scale: float = 1.0


class LangfuseQuery(Frozen):
    """One query of Langfuse's metrics API.

    :param version: the dimension that holds the version; by default that of the view.
    :param filters: conditions as Langfuse takes them: column, operator, value, type, key.
    :param series: measures by metric (``metric:slice`` for a slice).
    """

    view: Literal["observations", "scores-numeric", "scores-categorical", "traces"] = "observations"
    version: str | None = None
    filters: tuple[dict[str, Any], ...] = ()
    series: Mapping[str, LangfuseMeasure]

    @property
    def dimension(self) -> str:
        """The dimension that holds the version."""
        return self.version or ("traceVersion" if self.view.startswith("scores") else "version")


class LangfuseQueries(Frozen):
    """Langfuse's metrics API: one request for each query.

    :param api: v2, or v1 for a server that does not have it.
    :param row_limit: always sent, because the server's own is 100; a full page is an error.
    """

    api: Literal["v1", "v2"] = "v2"
    row_limit: int = 1000
    queries: tuple[LangfuseQuery, ...]


class HttpJsonSource(Frozen):
    """Any API that answers JSON, behind an Airflow ``http`` connection.

    Exactly one of ``requests``, ``datadog`` and ``langfuse`` says what is asked.

    :param timeout: for one request.
    :param late: how far back every poll reads again, to report what came late.
    """

    type: Literal["http_json"] = "http_json"
    conn_id: str
    requests: tuple[JsonRequest, ...] = ()
    datadog: DatadogQueries | None = None
    langfuse: LangfuseQueries | None = None
    timeout: timedelta = timedelta(seconds=20)
    late: timedelta = timedelta(minutes=5)

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
