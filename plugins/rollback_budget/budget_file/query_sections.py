"""The section of a budget file that says which series make up a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake
from rollback_budget.budget_file.yaml_tree import quote
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.promql_selector import parse_selector
from rollback_budget.model.query import PrometheusQuery

#: Stands in PromQL for the conditions on version, slice and the source's labels.
MATCHERS = "$matchers"

_ANY_KIND = tuple(MetricKind)
#: What a query is made of, by the key that says it: for which kinds, and what goes with it.
_SHAPES: dict[str, tuple[tuple[MetricKind, ...], tuple[str, ...]]] = {
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


class PrometheusQuerySection(Section, PrometheusQuery):
    """Which series make up a metric: one of events, failures, sum, histogram, gauge and value."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what is not readable as PromQL, and what does not go together."""
        yield from super().mistakes(data)
        for key in _SELECTORS:
            if isinstance(text := data.get(key), str) and text:
                yield from _selector_mistakes(key, text)
        for key in ("value", "n"):
            if isinstance(text := data.get(key), str) and MATCHERS not in text:
                yield mistake((key,), _without_matchers(f"`{key}`"))
        shapes = [key for key in _SHAPES if key in data]
        if len(shapes) != 1:
            found = f", not {' and '.join(f'`{key}`' for key in shapes)}" if shapes else ""
            yield mistake((), f"a query has one of {', '.join(f'`{key}`' for key in _SHAPES)}{found}")
            return
        fitting = _SHAPES[shapes[0]][1]
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


def _query_type(value: Any) -> str:
    return "text" if isinstance(value, str) else "prometheus"


QuerySection = Annotated[
    Annotated[str, Tag("text")] | Annotated[PrometheusQuerySection, Tag("prometheus")],
    Discriminator(_query_type),
]


def kind_mistakes(metric: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield why the query of a metric cannot give its kind."""
    query, kind = metric.get("query"), metric.get("kind", MetricKind.GAUGE.value)
    if not isinstance(query, dict):
        return
    shapes = [key for key in _SHAPES if key in query]
    if len(shapes) != 1 or kind not in tuple(MetricKind):
        return
    kinds = _SHAPES[shapes[0]][0]
    if kind not in kinds:
        wanted = " or ".join(f"`kind: {known.value}`" for known in kinds)
        yield mistake(("query",), f"`{shapes[0]}` is for {wanted}, and this metric is a {kind}")
    elif (
        "total" not in query
        and kind in (MetricKind.PROPORTION, MetricKind.MEAN)
        and "total" in _SHAPES[shapes[0]][1]
    ):
        yield mistake(("query",), f"`total` is missing: a {kind} needs the counter of all requests")


def query_mistakes(file: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield the queries that the source of a budget cannot ask."""
    source, metrics = file.get("source"), file.get("metrics")
    type_ = source.get("type") if isinstance(source, dict) else None
    for name, metric in metrics.items() if isinstance(metrics, dict) else ():
        query = metric.get("query") if isinstance(metric, dict) else None
        place = ("metrics", name, "query")
        if type_ == "sql" and isinstance(query, dict):
            yield mistake(place, "a `sql` source needs a SELECT here, not a mapping")
        if type_ == "prometheus" and isinstance(query, str) and MATCHERS not in query:
            yield mistake(place, _without_matchers("a query in PromQL"))


def _without_matchers(what: str) -> str:
    return (
        f"{what} must say {MATCHERS} where the version belongs, "
        f"such as sum by (version) (rate(errors_total{{{MATCHERS}}}[$window]))"
    )


def _selector_mistakes(key: str, text: str) -> Iterator[InitErrorDetails]:
    try:
        selector = parse_selector(text)
    except ValueError as error:
        yield mistake((key,), f"`{key}` ({quote(text)}) is {error}")
        return
    if key == "histogram" and selector.name.endswith("_bucket"):
        plain = quote(selector.name.removesuffix("_bucket"))
        yield mistake((key,), f"`histogram` is the plain name, {plain}, without _bucket")
