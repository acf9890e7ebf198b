"""The ``sql`` source: samples from any database behind a common-sql connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollback_budget.model.budget import Budget
from rollback_budget.model.metric import BucketBy, MetricKind
from rollback_budget.model.score_table import Scores
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
        if source.scores is not None:
            yield from _not_in_the_scores(spec, source.scores)
        others = [budget for budget in spec.budgets if not source.is_score(budget.metric)]
        if source.log is not None:
            yield from _not_in_the_table(others, source)
        elif source.query is None:
            for name in {b.metric: None for b in others if spec.metric(b.metric).query is None}:
                yield f"`metrics.{name}.query` is missing: add its SELECT, or {_instead(source)}"

    @classmethod
    def warnings(cls, spec: RolloutSpec) -> Iterator[str]:
        """Yield SQL that hides missing data, or reads more than it is asked for."""
        from rollback_budget.sources.sql.sql_lint import sql_remarks

        yield from sql_remarks(spec)


def _instead(source: SqlSource) -> str:
    if source.scores is not None:
        return "say in `source.scores.metrics` which score it is made of"
    return "`source.query`"


def _not_in_the_table(budgets: Sequence[Budget], source: SqlSource) -> Iterator[str]:
    """Yield what the table of a ``sql`` source is not said to hold."""
    section = "aggregate" if source.request_log is None else "request_log"
    for metric in {budget.metric: None for budget in budgets}:
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
    if source.log is not None and source.log.slice is None and any(budget.slice for budget in budgets):
        yield f"`source.{section}.slice` is missing: name the column that holds the slice of a budget"


def _not_in_the_scores(spec: RolloutSpec, scores: Scores) -> Iterator[str]:
    """Yield what the table of scores is not said to hold."""
    mine = [budget for budget in spec.budgets if scores.gives(budget.metric)]
    for name in {budget.metric: None for budget in mine}:
        score, metric = scores.metrics[name], spec.metric(name)
        if score.is_share and metric.kind not in (MetricKind.PROPORTION, MetricKind.COUNT):
            yield (
                f"`metrics.{name}.kind` must be proportion (or count): it is made of the scores that pass, "
                "and not of what they are"
            )
        if metric.bucket_by is BucketBy.ARRIVAL and scores.arrived is None:
            yield (
                f"`source.scores.arrived` is missing: {name} counts when it arrives; name the column with "
                "the time at which a score came"
            )
    if scores.slice is None and any(budget.slice for budget in mine):
        yield "`source.scores.slice` is missing: name the column that holds the slice of a budget"
