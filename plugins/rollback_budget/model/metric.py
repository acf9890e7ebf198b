"""What a metric is and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, Literal

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
    :param better: which direction is the better one, against which a rule is held; None where the name says
        it, or nothing does.
    :param scale: what its values (and the bounds of its histogram) are multiplied by: ``0.01`` for percent,
        ``0.001`` for milliseconds where the unit is seconds.
    """

    kind: MetricKind = MetricKind.GAUGE
    unit: str = ""
    query: str | PrometheusQuery | None = Field(
        default=None, description="The source's query for this metric."
    )
    user_impact: bool = True
    # Specs that were frozen before there were these keep their digests.
    better: Literal["higher", "lower"] | None = Field(
        default=None,
        exclude_if=lambda better: better is None,
        description="Which direction is better; many names say it, too.",
    )
    scale: float = Field(
        default=1.0,
        exclude_if=lambda scale: scale == 1.0,
        description="What the values are multiplied by, such as 0.01 for percent.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield why the query cannot give what the metric is."""
        yield from super().mistakes(data)
        query, kind = data.get("query"), data.get("kind", cls.model_fields["kind"].default.value)
        scale = cls.peek(data, "scale")
        if scale is not None and not 0.0 < scale < inf:
            yield mistake(("scale",), "`scale` is a number above 0, such as 0.01 for percent")
        elif scale not in (None, 1.0) and kind == MetricKind.COUNT:
            yield mistake(("scale",), "`scale` is not for a count: events are counted one by one")
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
