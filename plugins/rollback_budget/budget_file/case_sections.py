"""The section of a budget file that says where the failing requests of a breach are found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.json_sections import not_jmespath, unknown_placeholder, unknown_placeholders
from rollback_budget.budget_file.section import Section, mistake
from rollback_budget.budget_file.sql_sections import FlagColumn, not_a_name, not_a_table
from rollback_budget.budget_file.target_sections import not_json
from rollback_budget.budget_file.yaml_tree import quote
from rollback_budget.model.case_source import (
    CaseLog,
    CaseRequest,
    Cases,
    HttpJsonCases,
    LangfuseCases,
    PhoenixCases,
    Redaction,
    ScoreRule,
    SqlCases,
)

PLACEHOLDERS = (
    *("$start", "$end", "$start_s", "$end_s", "$start_ms", "$end_ms"),
    *("$release", "$baseline", "$metric", "$slice", "$bound", "$limit", "$cursor"),
)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_REGION = re.compile(r"[A-Z]{2}")


class CaseLogSection(Section, CaseLog):
    """A table with one row a request and its content."""

    input: str = Field(default="input", examples=["prompt"])
    success: FlagColumn | None = None
    handoff: FlagColumn | None = None
    incident: FlagColumn | None = None
    failed: Mapping[str, FlagColumn] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what cannot be a table or a column."""
        yield from super().mistakes(data)
        yield from not_a_table(data.get("table"))
        for name in ("time", "version", "input", "output", "trace_id", "slice", "latency", "tokens", "cost"):
            yield from not_a_name((name,), data.get(name))
        columns = data.get("metadata")
        for at, name in enumerate(columns if isinstance(columns, list) else ()):
            yield from not_a_name(("metadata", at), name)


class SqlCasesSection(Section, SqlCases):
    """Failing requests from any common-sql connection."""

    positive: ClassVar[tuple[str, ...]] = ("statement_timeout",)
    conn_id: str = Field(examples=["request_log"])
    request_log: CaseLogSection | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield two places to read from, or none."""
        yield from super().mistakes(data)
        if ("query" in data) == ("request_log" in data):
            yield mistake((), "say what to read: either `request_log` (a table) or `query` (a SELECT)")


class CaseRequestSection(Section, CaseRequest):
    """One request, and how to read the failing requests from its answer."""

    path: str = Field(examples=["/api/requests"])
    items: str = Field(examples=["data"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield unknown placeholders and broken JMESPath."""
        yield from super().mistakes(data)
        paths = ("items", "input", "output", "trace_id", "time", "slice", "version", "failed", "next")
        yield from not_jmespath(data, paths)
        metadata = data.get("metadata")
        for item in not_jmespath(metadata, tuple(metadata)) if isinstance(metadata, dict) else ():
            yield mistake(("metadata", *item["loc"]), str(item["type"]))
        path = data.get("path")
        for part in path.split("/") if isinstance(path, str) else ():
            yield from unknown_placeholder(part, ("path",), PLACEHOLDERS)
        for key in ("query", "body"):
            yield from not_json(data.get(key), (key,))
            yield from unknown_placeholders(data.get(key), (key,), PLACEHOLDERS)


class ScoreRuleSection(Section, ScoreRule):
    """Which scores, or annotations, mark a request as failed."""


class LangfuseCasesSection(Section, LangfuseCases):
    """Langfuse's public API."""

    scores: Mapping[str, ScoreRuleSection] = Field(default_factory=dict)


class PhoenixCasesSection(Section, PhoenixCases):
    """Arize Phoenix's REST API."""

    project: str = Field(examples=["default"])
    annotations: Mapping[str, ScoreRuleSection] = Field(default_factory=dict)


class HttpJsonCasesSection(Section, HttpJsonCases):
    """Failing requests from any API that answers JSON, behind an Airflow `http` connection."""

    positive: ClassVar[tuple[str, ...]] = ("timeout",)
    conn_id: str = Field(examples=["langfuse"])
    request: CaseRequestSection | None = None
    langfuse: LangfuseCasesSection | None = None
    phoenix: PhoenixCasesSection | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield several things to ask, or none."""
        yield from super().mistakes(data)
        ways = [key for key in ("request", "langfuse", "phoenix") if key in data]
        if not ways:
            yield mistake((), "say what to ask: `request`, `langfuse: {}` or `phoenix: {project: ...}`")
        for other in ways[1:]:
            yield mistake((other,), f"`{other}` and `{ways[0]}` both say what to ask; keep one", "key")


class RedactionSection(Section, Redaction):
    """What is taken out of requests before anything is written."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield patterns that cannot be used, and what is no country."""
        yield from super().mistakes(data)
        patterns, regions = data.get("patterns"), data.get("phone_regions")
        for name, pattern in patterns.items() if isinstance(patterns, dict) else ():
            if not _KIND.fullmatch(name):
                why = f"{quote(name)} will stand in the place of what was taken out: a word in lower case"
                yield mistake(("patterns", name), why, "key")
            if isinstance(pattern, str):
                yield from _no_pattern(("patterns", name), pattern)
        for at, region in enumerate(regions if isinstance(regions, list) else ()):
            if isinstance(region, str) and not _REGION.fullmatch(region):
                yield mistake(
                    ("phone_regions", at), f"{quote(region)} is no country: two capital letters, such as DE"
                )


def _source_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


CaseSourceSection = Annotated[
    Annotated[SqlCasesSection, Tag("sql")] | Annotated[HttpJsonCasesSection, Tag("http_json")],
    Discriminator(
        _source_type,
        custom_error_type="rule",
        custom_error_message="`cases.source` has a type: `type: sql`, or http_json",
    ),
]


class CasesSection(Section, Cases):
    """How a breach becomes eval cases."""

    source: CaseSourceSection | None = Field(default=None, description="Where failing requests are found.")
    limit: int = Field(default=20, ge=1, le=1000, description="Cases that a breach brings.")
    candidates: int = Field(default=2000, ge=1, le=100_000, description="Failing requests to choose from.")
    longest: int = Field(default=20_000, ge=200, description="Characters of an input, and of an output.")
    redact: RedactionSection = Field(
        default=RedactionSection(),
        description="What is taken out of requests, beside e-mail addresses, keys and card numbers.",
    )


def case_mistakes(data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """Yield what a table of requests lacks that the source of the samples does not say either."""
    log, shared = _log_of(data.get("cases", {})), _log_of(data)
    if log is None:
        return
    for key in ("table", "time"):
        if key not in log and (shared is None or key not in shared):
            where = ("cases", "source", "sql", "request_log")
            yield mistake(where, f"`{key}` is missing, here and in `source.request_log`", "rule")


def _log_of(data: object) -> dict[str, Any] | None:
    source = data.get("source") if isinstance(data, dict) else None
    log = source.get("request_log") if isinstance(source, dict) else None
    return log if isinstance(log, dict) else None


def _no_pattern(loc: tuple[str | int, ...], pattern: str) -> Iterator[InitErrorDetails]:
    try:
        matches_nothing = re.compile(pattern).match("") is not None
    except re.error as error:
        yield mistake(loc, f"{quote(pattern)} is no regular expression: {error}")
        return
    if matches_nothing:
        yield mistake(loc, f"{quote(pattern)} finds the empty text; say what must be there")
