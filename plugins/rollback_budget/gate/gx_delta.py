"""Our own expectation for Great Expectations: a candidate is not much worse than its baseline.

Imports Great Expectations, so nothing but the gate's own process may import this.
"""

from __future__ import annotations

from typing import Any, ClassVar

from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from sqlalchemy import case, func, null, select, true
from sqlalchemy.sql.selectable import FromClause

from rollback_budget.gate.delta import NO_ROWS, DeltaRule, Summary, delta_outcome, rank_of

METRIC = "rollback_budget.release_summary"
#: Summaries by version and slice; the slice None is all rows of the version.
Summaries = dict[tuple[str, str | None], Summary]


class ReleaseSummary(TableMetricProvider):
    """Rows, known values, and the mean or quantile of a column, by version and slice, in one pass.

    All deltas on one column share one of these, whatever their slices and thresholds are.
    """

    metric_name = METRIC
    value_keys = ("column", "quantile", "release", "baseline")

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> Summaries:
        frame, _domain, _accessor = execution_engine.get_compute_domain(
            metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE
        )
        quantile = metric_value_kwargs["quantile"]
        found: Summaries = {}
        for version in {metric_value_kwargs["release"], metric_value_kwargs["baseline"]}:
            rows = frame[frame["release"] == version]
            values = rows[metric_value_kwargs["column"]]
            found[version, None] = _of_values(values, quantile)
            for name, part in values.groupby(rows["slice"]):
                found[version, str(name)] = _of_values(part, quantile)
        return found

    @metric_value(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls,  # noqa: N805
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> Summaries:
        selectable, _domain, _accessor = execution_engine.get_compute_domain(
            metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE
        )
        rows = selectable.subquery() if hasattr(selectable, "subquery") else selectable
        column, quantile = metric_value_kwargs["column"], metric_value_kwargs["quantile"]
        found: Summaries = {}
        for by_slice in (False, True):
            means = {
                (version, slice_): Summary(count, known, None if mean is None else float(mean))
                for version, slice_, count, known, mean in execution_engine.execute_query(
                    _means(rows, column, by_slice)
                )
            }
            if quantile is None:
                found |= means
                continue
            values = _ranked(execution_engine, rows, column, by_slice, quantile, means)
            found |= {key: one._replace(value=values.get(key)) for key, one in means.items()}
        return found


def _of_values(values: Any, quantile: float | None) -> Summary:
    known = values.dropna()
    count = len(known)
    if not count:
        return Summary(len(values), 0, None)
    if quantile is None:
        return Summary(len(values), count, float(known.mean()))
    return Summary(len(values), count, float(known.sort_values().iloc[rank_of(quantile, count) - 1]))


def _means(rows: FromClause, column: str, by_slice: bool) -> Any:
    slice_ = rows.c["slice"] if by_slice else null()
    query = select(
        rows.c["release"], slice_, func.count(), func.count(rows.c[column]), func.avg(rows.c[column])
    )
    if by_slice:
        return query.where(rows.c["slice"].is_not(None)).group_by(rows.c["release"], rows.c["slice"])
    return query.group_by(rows.c["release"])


def _ranked(
    execution_engine: SqlAlchemyExecutionEngine,
    rows: FromClause,
    column: str,
    by_slice: bool,
    quantile: float,
    means: Summaries,
) -> dict[tuple[str, str | None], float]:
    """Return the value at each group's rank; the ranks follow from how many values are known."""
    keys = [rows.c["release"], *([rows.c["slice"]] if by_slice else [])]
    ranked = (
        select(
            *keys,
            rows.c[column].label("value"),
            func.row_number().over(partition_by=keys, order_by=rows.c[column]).label("place"),
        )
        .where(rows.c[column].is_not(None))
        .subquery()
    )
    slice_ = ranked.c["slice"] if by_slice else null()
    places = [
        (
            (ranked.c["release"] == version) & (ranked.c["slice"] == name if by_slice else true()),
            rank_of(quantile, one.known),
        )
        for (version, name), one in means.items()
        if one.known
    ]
    if not places:
        return {}
    wanted = case(*places, else_=0)
    query = select(ranked.c["release"], slice_, ranked.c["value"]).where(ranked.c["place"] == wanted)
    return {(version, name): float(value) for version, name, value in execution_engine.execute_query(query)}


class ExpectReleaseDeltaToBeWithinBudget(BatchExpectation):
    """Expect a measure of the candidate not to be worse than the baseline's by more than a threshold.

    The fields are those of :class:`~rollback_budget.gate.delta.DeltaRule`, and the two versions.
    """

    measure: str
    column: str
    quantile: float | None = None
    comparison: str
    threshold: float
    worse: str
    slice: str | None = None
    min_rows: int = 30
    release: str
    baseline: str

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id",)
    success_keys: ClassVar[tuple[str, ...]] = (
        *DeltaRule.model_fields,
        "release",
        "baseline",
    )

    def _validate(
        self,
        metrics: dict[str, Summaries],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002
        execution_engine: Any = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        summaries = metrics[METRIC]
        rule = DeltaRule.model_validate({name: getattr(self, name) for name in DeltaRule.model_fields})
        outcome = delta_outcome(
            rule,
            (self.release, self.baseline),
            summaries.get((self.release, self.slice), NO_ROWS),
            summaries.get((self.baseline, self.slice), NO_ROWS),
        )
        return {
            "success": outcome.within,
            "result": {"observed_value": outcome.delta, "details": {"sentence": outcome.sentence}},
        }
