"""The ``sql`` source: samples from any database behind a common-sql connection."""

from __future__ import annotations

from collections.abc import Iterator

from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.sql_table import ROLES, is_quantile
from rollback_budget.sources.base import MetricSource, Source, SourceConnections


class SqlMetricSource(MetricSource):
    """Registers ``type: sql``."""

    settings = SqlSource

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> Source:
        """Return the source on the connection's engine."""
        from rollback_budget.sources.sql.source import SqlSeries

        assert isinstance(spec.source, SqlSource)
        return SqlSeries.of(spec, await connections.engine(spec.source.conn_id))

    @classmethod
    def problems(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield metrics that have no query, and what the table of requests or counts is not said to hold."""
        source = spec.source
        assert isinstance(source, SqlSource)
        if source.log is not None:
            yield from _not_in_the_table(spec, source)
        elif source.query is None:
            for name in {b.metric: None for b in spec.budgets if spec.metric(b.metric).query is None}:
                yield f"`metrics.{name}.query` is missing: add its SELECT, or `source.query`"

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield SQL that hides missing data, or reads more than it is asked for."""
        from rollback_budget.sources.sql.sql_lint import sql_remarks

        yield from sql_remarks(spec)


def _not_in_the_table(spec: RolloutSpec, source: SqlSource) -> Iterator[str]:
    """Yield what the table of a ``sql`` source is not said to hold."""
    section = "aggregate" if source.request_log is None else "request_log"
    for metric in {budget.metric: None for budget in spec.budgets}:
        if source.log is not None and not source.log.gives(metric):
            role = ROLES.get(metric)
            hint = (
                f"name its column as `source.{section}.{role}`"
                if role
                else "read it by `source.query` instead"
            )
            if is_quantile(metric):
                key = "latency" if source.aggregate is None else f"quantiles.{metric}"
                hint = f"name its column as `source.{section}.{key}`"
            yield f"{metric} is not in the table of `source.{section}`: {hint}"
    if source.log is not None and source.log.slice is None and any(budget.slice for budget in spec.budgets):
        yield f"`source.{section}.slice` is missing: name the column that holds the slice of a budget"
