"""Where the failing requests of a breach are found, and how they become eval cases, as the spec says it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from rollback_budget.model.base import Frozen
from rollback_budget.model.sql_table import ROLES, Flag, RequestLog, is_quantile


class CaseLog(Frozen):
    """A table with one row a request and its content. What is not named here is as in ``source.request_log``.

    :param input: what was asked: a text, or JSON such as a list of chat messages.
    :param output: what was answered.
    :param trace_id: names the request in the tracing system.
    :param metadata: further columns that are kept with a case.
    :param failed: what makes a request fail, by metric, where the columns of the metrics do not say it.
    """

    table: str | None = None
    time: str | None = None
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] | None = None
    version: str | None = None
    input: str = "input"
    output: str | None = None
    trace_id: str | None = None
    slice: str | None = None
    success: Flag | None = None
    handoff: Flag | None = None
    incident: Flag | None = None
    latency: str | None = None
    latency_unit: Literal["s", "ms"] | None = None
    tokens: str | None = None
    cost: str | None = None
    metadata: tuple[str, ...] = ()
    failed: Mapping[str, Flag] = Field(default_factory=dict)

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


class SqlCases(Frozen):
    """Failing requests from any common-sql connection: a table of requests, or a statement.

    :param query: a SELECT giving ``input`` and, where they are, ``output, trace_id, time, slice, failed``;
        further columns become metadata. It sees bound parameters only.
    """

    type: Literal["sql"] = "sql"
    conn_id: str
    request_log: CaseLog | None = None
    query: str | None = None
    statement_timeout: timedelta = timedelta(seconds=60)


class CaseRequest(Frozen):
    """One request, and how to read the failing requests from its answer.

    Whole strings in ``path`` (between slashes), ``query`` and ``body`` that name a placeholder are replaced
    by data. All but ``method``, ``path``, ``query``, ``body`` are JMESPath.

    :param items: from the answer to the list of requests.
    :param failed: from an item; false, 0, null and ``""`` leave it out. None takes every item.
    :param next: from the answer to what ``$cursor`` is on the next page; nothing ends the pages.
    :param metadata: from an item, by name.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str
    query: dict[str, Any] = Field(default_factory=dict)
    body: Any = None
    items: str
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


class ScoreRule(Frozen):
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


class LangfuseCases(Frozen):
    """Langfuse's public API: observations of the release, and scores that say which of them failed.

    Latency (``pNN``), tokens and cost are read from the observations; every other metric from scores.

    :param scores: by metric, which scores fail.
    :param type: of the observations that hold what was asked and answered.
    :param slice: the key of the metadata that holds a budget's slice.
    """

    type: str = "GENERATION"
    slice: str | None = None
    scores: Mapping[str, ScoreRule] = Field(default_factory=dict)


class PhoenixCases(Frozen):
    """Arize Phoenix's REST API: spans of a project, and annotations that say which of them failed.

    Latency (``pNN``) is read from the spans, errors from their status; other metrics from annotations.

    :param version: the attribute that holds the version.
    :param slice: the attribute that holds a budget's slice.
    :param span_kind: of the spans that hold what was asked and answered; root spans only when it is None.
    :param annotations: by metric, which annotations fail.
    :param errors: metrics for which a span with status ERROR fails, too.
    """

    project: str
    version: str = "metadata.version"
    slice: str | None = None
    span_kind: str | None = None
    annotations: Mapping[str, ScoreRule] = Field(default_factory=dict)
    errors: tuple[str, ...] = ("task_success", "error_rate")


class HttpJsonCases(Frozen):
    """Failing requests from any API that answers JSON, behind an Airflow ``http`` connection.

    Exactly one of ``request``, ``langfuse`` and ``phoenix`` says what is asked.

    :param timeout: for one request.
    """

    type: Literal["http_json"] = "http_json"
    conn_id: str
    request: CaseRequest | None = None
    langfuse: LangfuseCases | None = None
    phoenix: PhoenixCases | None = None
    timeout: timedelta = timedelta(seconds=60)


CaseSource = Annotated[SqlCases | HttpJsonCases, Field(discriminator="type")]


class Redaction(Frozen):
    """What is taken out of requests before anything is written, beside e-mail addresses, keys and cards.

    :param phone_regions: countries (ISO 3166) whose phone numbers are known without their country code.
    :param patterns: regular expressions of your own, by the name that stands in their place.
    """

    phone_regions: tuple[str, ...] = ("US",)
    patterns: Mapping[str, str] = Field(default_factory=dict)


class Cases(Frozen):
    """How a breach becomes eval cases.

    :param source: where failing requests are found; without one, a debt gets a stub.
    :param limit: cases that a breach brings.
    :param candidates: failing requests that are read, to choose those cases from.
    :param longest: characters of an input, and of an output, that a case keeps.
    """

    source: CaseSource | None = None
    limit: int = 20
    candidates: int = 2000
    longest: int = 20_000
    redact: Redaction = Redaction()
