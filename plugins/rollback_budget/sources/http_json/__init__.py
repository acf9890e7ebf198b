"""The ``http_json`` source: samples from any API that answers JSON, Datadog's and Langfuse's among them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.pace import pace_of, paces_of, series_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import MetricSource, Source, SourceConnections
from rollback_budget.text import plural

#: Requests to its metrics API that the smallest plan of Langfuse Cloud allows,
#: https://langfuse.com/faq/all/api-limits.
LANGFUSE_A_DAY = 100
LANGFUSE_STEPS = (timedelta(minutes=1), timedelta(hours=1))


class HttpJsonMetricSource(MetricSource):
    """Registers ``type: http_json``."""

    settings = HttpJsonSource

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Source:
        """Return the source on the connection's HTTP client."""
        from rollback_budget.sources.http_json.datadog import DatadogTimeseries
        from rollback_budget.sources.http_json.json_samples import PointReader
        from rollback_budget.sources.http_json.langfuse import LangfuseMetrics
        from rollback_budget.sources.http_json.source import JsonApi

        source = spec.source
        assert isinstance(source, HttpJsonSource)
        client = await connections.http(source.conn_id)
        if source.datadog is not None:
            return DatadogTimeseries(source.datadog, client, source.timeout)
        if source.langfuse is not None:
            return LangfuseMetrics(source.langfuse, client, source.timeout)
        readers = [PointReader(one, f"source.requests[{at}]") for at, one in enumerate(source.requests)]
        return JsonApi(readers, client, source.timeout)

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield what the requests do not ask for."""
        source = spec.source
        assert isinstance(source, HttpJsonSource)
        section = "datadog" if source.datadog is not None else "langfuse" if source.langfuse else "requests"
        for series in {budget.series: None for budget in spec.budgets}:
            if source.metrics is not None and series not in source.metrics:
                yield f"{series} is in none of the `series` of `source.{section}`: say there how to read it"
        for metric in {budget.metric: None for budget in spec.budgets}:
            if source.langfuse is not None and pace_of(spec, metric).every not in LANGFUSE_STEPS:
                yield (
                    f"`metrics.{metric}.every` (by default `watch.step`) must be 1m or 1h: Langfuse groups "
                    "by minute or by hour"
                )

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield that a day's requests are more than a small plan of Langfuse Cloud allows."""
        source = spec.source
        assert isinstance(source, HttpJsonSource)
        if source.langfuse is None:
            return
        a_day = 0
        for pace in paces_of(spec):
            wanted = set(series_of(spec, pace))
            asked = sum(1 for query in source.langfuse.queries if wanted & query.series.keys())
            a_day += asked * round(timedelta(days=1) / max(spec.watch.poll, pace.every))
        if a_day > LANGFUSE_A_DAY:
            yield (
                f"Langfuse is sent about {plural(a_day, 'request')} a day: its cloud takes {LANGFUSE_A_DAY} "
                "of an organization on the plan Hobby, 200 on Core, 2 000 on Pro and Team; with a longer "
                "`watch.poll`, or `every: 1h` of its metrics, it is sent fewer"
            )
