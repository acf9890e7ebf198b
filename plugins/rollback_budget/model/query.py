"""How a metric is asked for, where its source takes more than a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal

from rollback_budget.model.mistake import Mistake, mistake, quote
from rollback_budget.model.promql_selector import parse_selector
from rollback_budget.model.section import Section


class MetricKind(StrEnum):
    """What a metric's values are."""

    PROPORTION = "proportion"
    COUNT = "count"
    QUANTILE = "quantile"
    MEAN = "mean"
    GAUGE = "gauge"


#: Stands in PromQL for the conditions on version, slice and the source's labels.
MATCHERS = "$matchers"

_ANY_KIND = tuple(MetricKind)
#: What a query is made of, by the key that says it: for which kinds, and what goes with it.
SHAPES: dict[str, tuple[tuple[MetricKind, ...], tuple[str, ...]]] = {
    "events": ((MetricKind.PROPORTION, MetricKind.COUNT), ("total", "absent")),
    "failures": ((MetricKind.PROPORTION,), ("total", "absent")),
    "sum": ((MetricKind.MEAN,), ("total",)),
    "histogram": ((MetricKind.QUANTILE, MetricKind.MEAN), ("native", "bounds")),
    "gauge": (
        (MetricKind.GAUGE, MetricKind.QUANTILE, MetricKind.MEAN, MetricKind.PROPORTION),
        ("across",),
    ),
    "value": (_ANY_KIND, ("n",)),
}
_SELECTORS = ("events", "failures", "sum", "total", "histogram", "gauge")


class PrometheusQuery(Section):
    """Which series make up a metric. Selectors name them, ``name{label="value"}``, without the version.

    :param events: counter of what the metric counts; with ``total`` a proportion, or a count by exposure.
    :param failures: counter of what the metric does not count: it is the proportion of the others.
    :param sum: counter of a quantity, of which the metric is the mean by ``total``.
    :param total: counter of all requests.
    :param histogram: a histogram by its plain name, without ``_bucket``.
    :param gauge: a gauge.
    :param value: PromQL with one value by version; it must say ``$matchers``.
    :param n: PromQL with the number of events behind ``value``.
    :param native: whether ``histogram`` is a native one.
    :param bounds: where a native histogram is cut; without them by eighths of a power of 2.
    :param across: what the value of a gauge is that several instances have.
    :param absent: what it means that ``events`` or ``failures`` are not there while ``total`` is.
    """

    events: str | None = None
    failures: str | None = None
    sum: str | None = None
    total: str | None = None
    histogram: str | None = None
    gauge: str | None = None
    value: str | None = None
    n: str | None = None
    native: bool = False
    bounds: tuple[float, ...] = ()
    across: Literal["avg", "sum", "min", "max"] = "avg"
    absent: Literal["unknown", "zero"] = "unknown"

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is not readable as PromQL, and what does not go together."""
        yield from super().mistakes(data)
        for key in _SELECTORS:
            if isinstance(text := data.get(key), str) and text:
                yield from _selector_mistakes(key, text)
        for key in ("value", "n"):
            if isinstance(text := data.get(key), str) and MATCHERS not in text:
                yield mistake((key,), without_matchers(f"`{key}`"))
        shapes = [key for key in SHAPES if key in data]
        if len(shapes) != 1:
            found = f", not {' and '.join(f'`{key}`' for key in shapes)}" if shapes else ""
            yield mistake((), f"a query has one of {', '.join(f'`{key}`' for key in SHAPES)}{found}")
            return
        fitting = SHAPES[shapes[0]][1]
        for key in data:
            if key in cls.model_fields and key not in (shapes[0], *fitting):
                yield mistake((key,), f"`{key}` means nothing beside `{shapes[0]}`; remove it", "key")
        if "bounds" in data and data.get("native") is not True:
            yield mistake(
                ("bounds",), "`bounds` are for native histograms; add `native: true`, or remove them"
            )
        bounds = data.get("bounds")
        numbers = isinstance(bounds, list) and all(isinstance(bound, int | float) for bound in bounds)
        if numbers and bounds != sorted(set(bounds or ())):
            yield mistake(("bounds",), "`bounds` must ascend, each once")


def without_matchers(what: str) -> str:
    """Say that a text in PromQL does not let the version in."""
    return (
        f"{what} must say {MATCHERS} where the version belongs, "
        f"such as sum by (version) (rate(errors_total{{{MATCHERS}}}[$window]))"
    )


def _selector_mistakes(key: str, text: str) -> Iterator[Mistake]:
    try:
        selector = parse_selector(text)
    except ValueError as error:
        yield mistake((key,), f"`{key}` ({quote(text)}) is {error}")
        return
    if key == "histogram" and selector.name.endswith("_bucket"):
        plain = quote(selector.name.removesuffix("_bucket"))
        yield mistake((key,), f"`histogram` is the plain name, {plain}, without _bucket")
