"""The sections of a budget file that say which table the ``sql`` source reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake
from rollback_budget.budget_file.yaml_tree import quote
from rollback_budget.model.source import SqlSource
from rollback_budget.model.sql_table import Aggregate, Flag, RequestLog

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_QUANTILE = re.compile(r"(?:\w+_)?p\d\d\d?")
_COLUMNS = (
    "time",
    "version",
    "slice",
    "latency",
    "requests",
    "tokens",
    "cost",
    "success",
    "handoff",
    "incident",
)


class FlagSection(Section, Flag):
    """A column that is the flag itself, or `{column: ..., among: [...]}` for some of its values."""

    column: str = Field(examples=["status"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what cannot be a column."""
        yield from super().mistakes(data)
        yield from not_a_name(("column",), data.get("column"))


def _as_flag(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


FlagColumn = Annotated[FlagSection, BeforeValidator(_as_flag, json_schema_input_type=str | FlagSection)]


class _TableSection(Section):
    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what cannot be a table or a column."""
        yield from super().mistakes(data)
        yield from not_a_table(data.get("table"))
        for name in _COLUMNS:
            yield from not_a_name((name,), data.get(name))


class RequestLogSection(_TableSection, RequestLog):
    """A table with one row a request."""

    positive: ClassVar[tuple[str, ...]] = ("fastest",)
    table: str = Field(examples=["requests"])
    time: str = Field(examples=["finished_at"])
    success: FlagColumn | None = None
    handoff: FlagColumn | None = None
    incident: FlagColumn | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a range of latencies that is none."""
        yield from super().mistakes(data)
        fastest, slowest = cls.peek(data, "fastest"), cls.peek(data, "slowest")
        if fastest and slowest is not None and slowest <= fastest:
            yield mistake(
                ("slowest" if "slowest" in data else "fastest",), "`slowest` must be longer than `fastest`"
            )


class AggregateSection(_TableSection, Aggregate):
    """A table of counts, one row a bucket and version."""

    table: str = Field(examples=["requests_per_minute"])
    time: str = Field(examples=["minute"])
    requests: str = Field(examples=["requests"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what cannot be a column or a quantile."""
        yield from super().mistakes(data)
        quantiles = data.get("quantiles")
        for metric, name in quantiles.items() if isinstance(quantiles, dict) else ():
            yield from not_a_name(("quantiles", metric), name)
            if not _QUANTILE.fullmatch(metric):
                yield mistake(
                    ("quantiles", metric), f"{quote(metric)} is no quantile; name it p95 or ttft_p95", "key"
                )


class SqlSection(Section, SqlSource):
    """Any common-sql connection."""

    positive: ClassVar[tuple[str, ...]] = ("statement_timeout",)
    conn_id: str = Field(examples=["request_log"])
    request_log: RequestLogSection | None = None
    aggregate: AggregateSection | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield two places to read from."""
        yield from super().mistakes(data)
        first, *others = [key for key in ("query", "request_log", "aggregate") if key in data] or [""]
        for other in others:
            yield mistake((other,), f"`{other}` and `{first}` both say where to read; keep one", "key")


def not_a_table(value: object) -> Iterator[InitErrorDetails]:
    """Yield a mistake for what cannot be a table."""
    if isinstance(value, str) and not all(_NAME.fullmatch(part) for part in value.split(".")):
        yield mistake(
            ("table",), f"`table` is a name such as requests or analytics.requests, not {quote(value)}"
        )


def not_a_name(loc: tuple[str | int, ...], value: object) -> Iterator[InitErrorDetails]:
    """Yield a mistake for what cannot be a column."""
    if isinstance(value, str) and value and not _NAME.fullmatch(value):
        wanted = "a column is letters, digits, underscores and $"
        yield mistake(loc, f"{wanted}, not {quote(value)}; make a view for anything else")
