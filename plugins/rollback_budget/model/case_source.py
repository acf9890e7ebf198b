"""Where the failing requests of a breach are found, and how they become eval cases, as the spec says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.by_type import ByType
from rollback_budget.model.json_request import not_jmespath, request_mistakes
from rollback_budget.model.mistake import Loc, Mistake, mistake, quote
from rollback_budget.model.section import Section
from rollback_budget.model.sql_table import (
    ROLES,
    Flag,
    FlagColumn,
    RequestLog,
    Table,
    is_quantile,
    not_a_column,
)

PLACEHOLDERS = (
    *("$start", "$end", "$start_s", "$end_s", "$start_ms", "$end_ms"),
    *("$release", "$baseline", "$metric", "$slice", "$bound", "$limit", "$cursor"),
)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_REGION = re.compile(r"[A-Z]{2}")


class CaseLog(Table):
    """A table with one row a request and its content. What is not named here is as in ``source.request_log``.

    :param input: what was asked: a text, or JSON such as a list of chat messages.
    :param output: what was answered.
    :param trace_id: names the request in the tracing system.
    :param metadata: further columns that are kept with a case.
    :param failed: what makes a request fail, by metric, where the columns of the metrics do not say it.
    """

    columns: ClassVar[tuple[str, ...]] = (
        *("time", "version", "input", "output", "trace_id"),
        *("slice", "latency", "tokens", "cost"),
    )

    table: str | None = None
    time: str | None = None
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] | None = None
    version: str | None = None
    input: str = Field(default="input", examples=["prompt"])
    output: str | None = None
    trace_id: str | None = None
    slice: str | None = None
    success: FlagColumn | None = None
    handoff: FlagColumn | None = None
    incident: FlagColumn | None = None
    latency: str | None = None
    latency_unit: Literal["s", "ms"] | None = None
    tokens: str | None = None
    cost: str | None = None
    metadata: tuple[str, ...] = ()
    failed: Mapping[str, FlagColumn] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what cannot be a table or a column."""
        yield from super().mistakes(data)
        columns = data.get("metadata")
        for at, name in enumerate(columns if isinstance(columns, list) else ()):
            yield from not_a_column(("metadata", at), name)

    def over(self, log: RequestLog | None) -> CaseLog:
        """Return this table with what it leaves out taken from the table of the samples, if there is one."""
        if log is None or self.table not in (None, log.table):
            return self
        named = self.model_dump(exclude_none=True)
        shared = {key: getattr(log, key) for key in type(log).model_fields if key in type(self).model_fields}
        return CaseLog.model_validate({**{k: v for k, v in shared.items() if v is not None}, **named})

    def flag_of(self, metric: str) -> Flag | None:
        """Return the flag behind a metric; whether it marks failures, :meth:`marks_failure` says."""
        if metric in self.failed:
            return self.failed[metric]
        value = getattr(self, ROLES.get(metric, ""), None)
        return value if isinstance(value, Flag) else None

    def marks_failure(self, metric: str) -> bool:
        """Whether the metric's flag marks requests that fail, and not those that succeed."""
        return metric in self.failed or ROLES.get(metric) != "success"

    def number_of(self, metric: str) -> tuple[str, float] | None:
        """Return the column behind a metric that is a number, and what it is multiplied with."""
        if is_quantile(metric) and self.latency is not None:
            return self.latency, 0.001 if self.latency_unit == "ms" else 1.0
        value = getattr(self, ROLES.get(metric, ""), None)
        return (value, 1.0) if isinstance(value, str) else None


class SqlCases(Section):
    """Failing requests from any common-sql connection: a table of requests, or a statement.

    :param query: a SELECT giving ``input`` and, where they are, ``output, trace_id, time, slice, failed``;
        further columns become metadata. It sees bound parameters only.
    """

    positive: ClassVar[tuple[str, ...]] = ("statement_timeout",)

    type: Literal["sql"] = "sql"
    conn_id: str = Field(examples=["request_log"])
    request_log: CaseLog | None = None
    query: str | None = None
    statement_timeout: timedelta = timedelta(seconds=60)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield two places to read from, or none."""
        yield from super().mistakes(data)
        if ("query" in data) == ("request_log" in data):
            yield mistake((), "say what to read: either `request_log` (a table) or `query` (a SELECT)")


class CaseRequest(Section):
    """One request, and how to read the failing requests from its answer.

    Whole strings in ``path`` (between slashes), ``query`` and ``body`` that name a placeholder are replaced
    by data. All but ``method``, ``path``, ``query``, ``body`` are JMESPath.

    :param items: from the answer to the list of requests.
    :param failed: from an item; false, 0, null and ``""`` leave it out. None takes every item.
    :param next: from the answer to what ``$cursor`` is on the next page; nothing ends the pages.
    :param metadata: from an item, by name.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str = Field(examples=["/api/requests"])
    query: dict[str, Any] = Field(default_factory=dict)
    body: Any = None
    items: str = Field(examples=["data"])
    input: str = "input"
    output: str | None = "output"
    trace_id: str | None = None
    time: str | None = None
    time_format: Literal["iso", "iso_utc", "epoch_s", "epoch_ms"] = "iso"
    slice: str | None = None
    version: str | None = None
    failed: str | None = None
    next: str | None = None
    metadata: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield unknown placeholders and broken JMESPath."""
        yield from super().mistakes(data)
        paths = ("items", "input", "output", "trace_id", "time", "slice", "version", "failed", "next")
        yield from not_jmespath(data, paths)
        metadata = data.get("metadata")
        for said in not_jmespath(metadata, tuple(metadata)) if isinstance(metadata, dict) else ():
            yield mistake(("metadata", *said.loc), said.message)
        yield from request_mistakes(data, PLACEHOLDERS)


class ScoreRule(Section):
    """Which scores, or annotations, mark a request as failed.

    :param name: of the score; by default the metric.
    :param below: a score under this fails.
    :param above: a score over this fails.
    :param labels: categories that fail.
    """

    name: str | None = None
    below: float | None = None
    above: float | None = None
    labels: tuple[str, ...] = ()

    def fails(self, score: float | None, label: str | None) -> bool:
        """Whether a score marks a failure; without any bound, one under a half does."""
        if label is not None and label in self.labels:
            return True
        if score is None:
            return False
        if self.below is None and self.above is None:
            return not self.labels and score < 0.5
        return (self.below is not None and score < self.below) or (
            self.above is not None and score > self.above
        )


class LangfuseCases(Section):
    """Langfuse's public API: observations of the release, and scores that say which of them failed.

    Latency (``pNN``), tokens and cost are read from the observations; every other metric from scores.

    :param scores: by metric, which scores fail.
    :param type: of the observations that hold what was asked and answered.
    :param slice: the key of the metadata that holds a budget's slice.
    """

    type: str = "GENERATION"
    slice: str | None = None
    scores: Mapping[str, ScoreRule] = Field(default_factory=dict)


class PhoenixCases(Section):
    """Arize Phoenix's REST API: spans of a project, and annotations that say which of them failed.

    Latency (``pNN``) is read from the spans, errors from their status; other metrics from annotations.

    :param version: the attribute that holds the version.
    :param slice: the attribute that holds a budget's slice.
    :param span_kind: of the spans that hold what was asked and answered; root spans only when it is None.
    :param annotations: by metric, which annotations fail.
    :param errors: metrics for which a span with status ERROR fails, too.
    """

    project: str = Field(examples=["default"])
    version: str = "metadata.version"
    slice: str | None = None
    span_kind: str | None = None
    annotations: Mapping[str, ScoreRule] = Field(default_factory=dict)
    errors: tuple[str, ...] = ("task_success", "error_rate")


class HttpJsonCases(Section):
    """Failing requests from any API that answers JSON, behind an Airflow ``http`` connection.

    Exactly one of ``request``, ``langfuse`` and ``phoenix`` says what is asked.

    :param timeout: for one request.
    """

    positive: ClassVar[tuple[str, ...]] = ("timeout",)

    type: Literal["http_json"] = "http_json"
    conn_id: str = Field(examples=["langfuse"])
    request: CaseRequest | None = None
    langfuse: LangfuseCases | None = None
    phoenix: PhoenixCases | None = None
    timeout: timedelta = timedelta(seconds=60)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield several things to ask, or none."""
        yield from super().mistakes(data)
        ways = [key for key in ("request", "langfuse", "phoenix") if key in data]
        if not ways:
            yield mistake((), "say what to ask: `request`, `langfuse: {}` or `phoenix: {project: ...}`")
        for other in ways[1:]:
            yield mistake((other,), f"`{other}` and `{ways[0]}` both say what to ask; keep one", "key")


CaseSource = Annotated[
    SqlCases | HttpJsonCases,
    ByType(ours=(SqlCases, HttpJsonCases), wanted="`cases.source` has a type: `type: sql`, or http_json"),
]


class Redaction(Section):
    """What is taken out of requests before anything is written, beside e-mail addresses, keys and cards.

    :param phone_regions: countries (ISO 3166) whose phone numbers are known without their country code.
    :param patterns: regular expressions of your own, by the name that stands in their place.
    """

    phone_regions: tuple[str, ...] = ("US",)
    patterns: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
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


def _no_pattern(loc: Loc, pattern: str) -> Iterator[Mistake]:
    try:
        matches_nothing = re.compile(pattern).match("") is not None
    except re.error as error:
        yield mistake(loc, f"{quote(pattern)} is no regular expression: {error}")
        return
    if matches_nothing:
        yield mistake(loc, f"{quote(pattern)} finds the empty text; say what must be there")


class Cases(Section):
    """How a breach becomes eval cases; without a ``source``, a debt gets a stub."""

    source: CaseSource | None = Field(default=None, description="Where failing requests are found.")
    limit: int = Field(default=20, ge=1, le=1000, description="Cases that a breach brings.")
    candidates: int = Field(default=2000, ge=1, le=100_000, description="Failing requests to choose from.")
    longest: int = Field(default=20_000, ge=200, description="Characters of an input, and of an output.")
    redact: Redaction = Field(
        default=Redaction(),
        description="What is taken out of requests, beside e-mail addresses, keys and card numbers.",
    )
