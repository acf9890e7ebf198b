"""What a metric is and how it is asked for."""

from __future__ import annotations

from enum import StrEnum

from rollback_budget.model.base import Frozen
from rollback_budget.model.query import PrometheusQuery


class MetricKind(StrEnum):
    """What a metric's values are."""

    PROPORTION = "proportion"
    COUNT = "count"
    QUANTILE = "quantile"
    MEAN = "mean"
    GAUGE = "gauge"


class Metric(Frozen):
    """What a metric is and how its source is asked for it.

    :param kind: what the values are; proportions are fractions between 0 and 1.
    :param unit: shown behind values, for example ``s``.
    :param query: the source's query (for ``sql``: a SELECT giving ``time, version, value, n``; for
        ``prometheus`` the series that make it up, or PromQL); None when the source's own query gives all
        metrics at once.
    :param user_impact: False for an internal metric that users do not feel.
    """

    kind: MetricKind = MetricKind.GAUGE
    unit: str = ""
    query: str | PrometheusQuery | None = None
    user_impact: bool = True
