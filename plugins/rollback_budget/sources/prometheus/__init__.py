"""The ``prometheus`` source: samples from Prometheus and what speaks its API."""

from __future__ import annotations

from collections.abc import Iterator

from rollback_budget.model.duration import write_duration
from rollback_budget.model.pace import paces_of
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import MetricSource, Source, SourceConnections


class PrometheusMetricSource(MetricSource):
    """Registers ``type: prometheus``."""

    settings = PrometheusSource

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Source:
        """Return the source on the connection's HTTP client."""
        from rollback_budget.sources.prometheus.source import PrometheusSeries

        assert isinstance(spec.source, PrometheusSource)
        return PrometheusSeries.of(spec, await connections.http(spec.source.conn_id))

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield metrics that have no query, and a slice that no label holds."""
        assert isinstance(spec.source, PrometheusSource)
        for name in {b.metric: None for b in spec.budgets if spec.metric(b.metric).query is None}:
            yield f"`metrics.{name}.query` is missing: say which series make it up, or choose a `preset`"
        if spec.source.slice_label is None and any(budget.slice for budget in spec.budgets):
            yield "`source.slice_label` is missing: name the label that holds the slice of a budget"

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield looks that have no scrape, and PromQL that hides missing data."""
        from rollback_budget.sources.prometheus.promql_lint import promql_remarks

        assert isinstance(spec.source, PrometheusSource)
        yield from promql_remarks(spec)
        for name in {budget.metric: None for budget in spec.budgets}:
            query = spec.metric(name).query
            if isinstance(query, PrometheusQuery) and query.absent == "zero" and query.total is None:
                yield (
                    f"`metrics.{name}.query`: `absent: zero` says nothing without `total`, the counter of "
                    "all requests: whether the version was scraped at all is not known"
                )
        shortest = min((pace.every for pace in paces_of(spec)), default=spec.watch.step)
        if shortest < spec.source.scrape_interval:
            key = "watch.step" if shortest == spec.watch.step else "every"
            step, scrape = write_duration(shortest), write_duration(spec.source.scrape_interval)
            yield (
                f"`{key}` ({step}) is shorter than `source.scrape_interval` ({scrape}): "
                "looks without a scrape are unknown"
            )
