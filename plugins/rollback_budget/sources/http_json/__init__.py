"""The ``http_json`` source: samples from any API that answers JSON, Datadog's and Langfuse's among them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import MetricSource, Source, SourceConnections


class HttpJsonMetricSource(MetricSource):
    """Registers ``type: http_json``."""

    settings = HttpJsonSource

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Source:
        """Return the source on the connection's HTTP client."""
        from rollback_budget.sources.http_json.source import open_http_json

        assert isinstance(spec.source, HttpJsonSource)
        return open_http_json(spec, await connections.http(spec.source.conn_id))

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield what the requests do not ask for."""
        source = spec.source
        assert isinstance(source, HttpJsonSource)
        section = "datadog" if source.datadog is not None else "langfuse" if source.langfuse else "requests"
        for series in {budget.series: None for budget in spec.budgets}:
            if source.metrics is not None and series not in source.metrics:
                yield f"{series} is in none of the `series` of `source.{section}`: say there how to read it"
        if source.langfuse is not None and spec.watch.step not in (timedelta(minutes=1), timedelta(hours=1)):
            yield "`watch.step` must be 1m or 1h: Langfuse groups by minute or by hour"
