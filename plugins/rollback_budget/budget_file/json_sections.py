"""The sections of a budget file that say what the ``http_json`` source asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake, nearest
from rollback_budget.budget_file.target_sections import not_json
from rollback_budget.budget_file.yaml_tree import quote
from rollback_budget.model.json_api import (
    DatadogQueries,
    DatadogSeries,
    HttpJsonSource,
    JsonRequest,
    JsonSeries,
    LangfuseMeasure,
    LangfuseQueries,
    LangfuseQuery,
)

PLACEHOLDERS = (
    *("$start", "$end", "$start_s", "$end_s", "$start_ms", "$end_ms", "$step_s", "$step_ms"),
    *("$release", "$baseline", "$version"),
)
_PLACEHOLDER = re.compile(r"\$\w+")
_LANGFUSE_ROWS = 1000


class JsonSeriesSection(Section, JsonSeries):
    """Where a metric stands in a point."""

    value: str = Field(examples=["value"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what is no JMESPath."""
        yield from super().mistakes(data)
        yield from not_jmespath(data, ("value", "n", "divided_by", "le"))


class JsonRequestSection(Section, JsonRequest):
    """One request, and how to read its answer."""

    positive: ClassVar[tuple[str, ...]] = ("longest",)
    path: str = Field(examples=["/api/v1/series"])
    points: str = Field(examples=["data"])
    each: JsonSeriesSection | None = None
    series: Mapping[str, JsonSeriesSection] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield unknown placeholders, broken JMESPath, and points that say too little or too much."""
        yield from super().mistakes(data)
        yield from not_jmespath(data, ("points", "time", "version", "metric"))
        path = data.get("path")
        for part in path.split("/") if isinstance(path, str) else ():
            yield from unknown_placeholder(part, ("path",))
        for key in ("query", "body"):
            yield from not_json(data.get(key), (key,))
            yield from unknown_placeholders(data.get(key), (key,))
        asked = _texts(
            (path.split("/") if isinstance(path, str) else (), data.get("query"), data.get("body"))
        )
        if ("version" in data) == ("$version" in asked):
            yield mistake(
                ("version",) if "version" in data else (),
                "say whose points these are either by `version:` (JMESPath, from a point) or by asking for "
                "`$version`, one request for each version",
            )
        if ("metric" in data) != ("each" in data):
            yield mistake((), "`metric` (its name in a point) and `each` (its value there) go together")
        if ("series" in data) == ("metric" in data):
            yield mistake((), "a request has either `series` or `metric` with `each`")
        if "full_at" in data and (cls.peek(data, "full_at") or 0) < 1:
            yield mistake(("full_at",), "`full_at` is a number of points, 1 or more")


class DatadogSeriesSection(Section, DatadogSeries):
    """Formulas over the named queries."""

    value: str = Field(examples=["errors / requests"])


class DatadogSection(Section, DatadogQueries):
    """Datadog's timeseries API, version 2."""

    queries: dict[str, str] = Field(examples=["{requests: 'sum:...{*} by {version}.as_count()'}"])
    series: Mapping[str, DatadogSeriesSection] = Field(examples=["{error_rate: {value: errors / requests}}"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield queries that do not tell versions apart, and formulas without a query."""
        yield from super().mistakes(data)
        tag, queries, series = (data.get(key) for key in ("version_tag", "queries", "series"))
        tag = cls.model_fields["version_tag"].default if tag is None else tag
        if not isinstance(queries, dict) or not isinstance(tag, str):
            return
        grouped = re.compile(rf"by\s*\{{\s*{re.escape(tag)}\s*\}}")
        for name, query in queries.items():
            if isinstance(query, str) and not grouped.search(query):
                wanted = f"must be grouped by the version and nothing else: add `by {{{tag}}}`"
                yield mistake(("queries", name), f"{quote(name)} {wanted}")
        for metric, formulas in series.items() if isinstance(series, dict) else ():
            for key in ("value", "n"):
                formula = formulas.get(key) if isinstance(formulas, dict) else None
                if isinstance(formula, str) and not queries.keys() & set(re.findall(r"\w+", formula)):
                    known = ", ".join(queries)
                    yield mistake(("series", metric, key), f"`{key}` uses none of the queries ({known})")


class LangfuseMeasureSection(Section, LangfuseMeasure):
    """A measure of a view, and how it is aggregated."""

    measure: str = Field(examples=["latency"])


class LangfuseQuerySection(Section, LangfuseQuery):
    """One query of Langfuse's metrics API."""

    series: Mapping[str, LangfuseMeasureSection] = Field(
        examples=["{p95: {measure: latency, aggregation: p95, scale: 0.001}}"]
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield filters that JSON cannot carry."""
        yield from super().mistakes(data)
        yield from not_json(data.get("filters"), ("filters",))


class LangfuseSection(Section, LangfuseQueries):
    """Langfuse's metrics API."""

    queries: tuple[LangfuseQuerySection, ...] = Field(examples=["[{view: observations, series: {...}}]"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a limit that Langfuse does not take, and views that its version does not have."""
        yield from super().mistakes(data)
        limit = cls.peek(data, "row_limit")
        if limit is not None and not 10 <= limit <= _LANGFUSE_ROWS:
            yield mistake(
                ("row_limit",), f"`row_limit` is from 10 to {_LANGFUSE_ROWS}, Langfuse's own maximum"
            )
        queries = data.get("queries")
        for at, query in enumerate(queries if isinstance(queries, list) else ()):
            if isinstance(query, dict) and query.get("view") == "traces" and data.get("api", "v2") == "v2":
                why = "v2 has no traces: take `observations`, or `api: v1`"
                yield mistake(("queries", at, "view"), why)


class HttpJsonSection(Section, HttpJsonSource):
    """Any API that answers JSON, behind an Airflow `http` connection."""

    positive: ClassVar[tuple[str, ...]] = ("timeout",)
    conn_id: str = Field(examples=["metrics_api"])
    requests: tuple[JsonRequestSection, ...] = ()
    datadog: DatadogSection | None = None
    langfuse: LangfuseSection | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield several things to ask, or none."""
        yield from super().mistakes(data)
        ways = [key for key in ("requests", "datadog", "langfuse") if data.get(key)]
        if not ways:
            yield mistake((), "say what to ask: `requests`, or `datadog` or `langfuse`")
        for other in ways[1:]:
            yield mistake((other,), f"`{other}` and `{ways[0]}` both say what to ask; keep one", "key")


def not_jmespath(data: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[InitErrorDetails]:
    """Yield a mistake for every text under ``keys`` that is no JMESPath."""
    # Only a file with such a source needs it: parsing DAGs must stay light.
    import jmespath
    from jmespath.exceptions import JMESPathError

    for key in keys:
        text = data.get(key)
        if not isinstance(text, str) or not text:
            continue
        try:
            jmespath.compile(text)
        except JMESPathError as error:
            said = " ".join(str(error).split())
            yield mistake((key,), f"`{key}` is no JMESPath ({quote(text)}): {said}")


def unknown_placeholders(
    value: object, loc: tuple[str | int, ...], known: tuple[str, ...] = PLACEHOLDERS
) -> Iterator[InitErrorDetails]:
    """Yield a mistake for every text within ``value`` that looks like a placeholder and is none."""
    match value:
        case dict():
            for key, child in value.items():
                yield from unknown_placeholders(child, (*loc, key), known)
        case list():
            for at, child in enumerate(value):
                yield from unknown_placeholders(child, (*loc, at), known)
        case str():
            yield from unknown_placeholder(value, loc, known)


def unknown_placeholder(
    text: str, loc: tuple[str | int, ...], known: tuple[str, ...] = PLACEHOLDERS
) -> Iterator[InitErrorDetails]:
    """Yield a mistake for a text that looks like a placeholder and is none."""
    if _PLACEHOLDER.fullmatch(text) and text not in known:
        meant = nearest(text, list(known))
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
        yield mistake(loc, f"{quote(text)} is no placeholder; {hint}")


def _texts(value: object) -> set[str]:
    match value:
        case dict():
            return {text for child in value.values() for text in _texts(child)}
        case list() | tuple():
            return {text for child in value for text in _texts(child)}
        case str():
            return {value}
    return set()
