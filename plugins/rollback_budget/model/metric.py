"""What a metric is and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from math import inf
from typing import Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.base import added_later
from rollback_budget.model.mistake import Mistake, mistake
from rollback_budget.model.query import SHAPES, MetricKind, PrometheusQuery
from rollback_budget.model.section import Section
from rollback_budget.model.watch_settings import shorter_than_a_look

__all__ = ["BucketBy", "Metric", "MetricKind"]


class BucketBy(StrEnum):
    """Which time of a value decides the look that it counts in."""

    EVENT = "event"
    ARRIVAL = "arrival"


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
    :param every: how often a value comes: looks, burn and blindness are in steps of it. None: ``watch.step``.
    :param lag: how late a value is; None for ``watch.settle``.
    :param bucket_by: by ``event`` a value counts in the look of its request, which waits for ``lag``; by
        ``arrival`` in the look in which it came, and the first ``lag`` after shipping is left out.
    :param max_gap: the longest hole that still burns. None: as many looks as ``watch.max_gap`` has.
    :param blind_after: how long nothing may be known. None: as many looks as ``watch.blind_after`` has.
    """

    positive: ClassVar[tuple[str, ...]] = ("every", "max_gap", "blind_after")

    kind: MetricKind = MetricKind.GAUGE
    unit: str = ""
    query: str | PrometheusQuery | None = Field(
        default=None, description="The source's query for this metric."
    )
    user_impact: bool = True
    better: Literal["higher", "lower"] | None = added_later(
        None, "Which direction is better; many names say it, too."
    )
    scale: float = added_later(1.0, "What the values are multiplied by, such as 0.01 for percent.")
    every: timedelta | None = added_later(
        None,
        "How often a value comes; by default `watch.step`. Burn and blindness are in this step.",
        ["1h"],
    )
    lag: timedelta | None = added_later(
        None,
        "How late a value is; by default `watch.settle`.",
        ["2h"],
    )
    bucket_by: BucketBy = added_later(
        BucketBy.EVENT,
        "`event`: a value counts when its request was, and the look waits for `lag`. `arrival`:"
        " it counts when it comes, and the first `lag` after shipping is left out.",
    )
    max_gap: timedelta | None = added_later(
        None,
        "The longest hole that still burns; by default as many looks as `watch.max_gap` has.",
        ["3h"],
    )
    blind_after: timedelta | None = added_later(
        None,
        "How long nothing may be known; by default as many looks as `watch.blind_after` has.",
        ["4h"],
    )

    @property
    def has_own_pace(self) -> bool:
        """Whether it is looked at in another way than ``watch`` says."""
        own = (self.every, self.lag, self.max_gap, self.blind_after)
        return any(value is not None for value in own) or self.bucket_by is not BucketBy.EVENT

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
        yield from shorter_than_a_look(cls, data, "every")
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
