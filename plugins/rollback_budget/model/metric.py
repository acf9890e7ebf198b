"""What a metric is and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from rollback_budget.model.mistake import Mistake, mistake
from rollback_budget.model.query import SHAPES, MetricKind, PrometheusQuery
from rollback_budget.model.section import Section

__all__ = ["Metric", "MetricKind"]


class Metric(Section):
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
    query: str | PrometheusQuery | None = Field(
        default=None, description="The source's query for this metric."
    )
    user_impact: bool = True

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield why the query cannot give what the metric is."""
        yield from super().mistakes(data)
        query, kind = data.get("query"), data.get("kind", cls.model_fields["kind"].default.value)
        if not isinstance(query, dict):
            return
        shapes = [key for key in SHAPES if key in query]
        if len(shapes) != 1 or kind not in tuple(MetricKind):
            return
        kinds, fitting = SHAPES[shapes[0]]
        if kind not in kinds:
            wanted = " or ".join(f"`kind: {known.value}`" for known in kinds)
            yield mistake(("query",), f"`{shapes[0]}` is for {wanted}, and this metric is a {kind}")
        elif "total" in fitting and "total" not in query and kind in (MetricKind.PROPORTION, MetricKind.MEAN):
            yield mistake(("query",), f"`total` is missing: a {kind} needs the counter of all requests")


#: The description of a metric without one.
UNDESCRIBED = Metric()
