"""Tables that the ``sql`` source reads without a query: one row a request, or one row a bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.mistake import Loc, Mistake, mistake, quote
from rollback_budget.model.section import Section, Written, or_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_QUANTILE = re.compile(r"p\d\d\d?")
_NAMED_QUANTILE = re.compile(r"(?:\w+_)?p\d\d\d?")


def is_quantile(metric: str) -> bool:
    """Whether a metric is a quantile of the latency by its name: ``p50``, ``p95``, ``p999``."""
    return _QUANTILE.fullmatch(metric) is not None


def not_a_table(value: object) -> Iterator[Mistake]:
    """Yield a mistake for what cannot be a table."""
    if isinstance(value, str) and not all(_NAME.fullmatch(part) for part in value.split(".")):
        yield mistake(
            ("table",), f"`table` is a name such as requests or analytics.requests, not {quote(value)}"
        )


def not_a_column(loc: Loc, value: object) -> Iterator[Mistake]:
    """Yield a mistake for what cannot be a column."""
    if isinstance(value, str) and value and not _NAME.fullmatch(value):
        wanted = "a column is letters, digits, underscores and $"
        yield mistake(loc, f"{wanted}, not {quote(value)}; make a view for anything else")


class Flag(Section):
    """What makes a request count: a column that holds 0 or 1 (or a boolean), or one of some values.

    :param among: the values that count; empty for a column that is the flag itself.
    """

    column: str = Field(examples=["status"])
    among: tuple[str, ...] = ()

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what cannot be a column."""
        yield from super().mistakes(data)
        yield from not_a_column(("column",), data.get("column"))


def _as_flag(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


#: A flag, or the name of the column that is the flag itself.
FlagColumn = Annotated[Flag, Written(_as_flag, or_text)]


class Table(Section):
    """A table, by the names of its columns."""

    columns: ClassVar[tuple[str, ...]] = (
        *("time", "version", "slice", "latency", "requests"),
        *("tokens", "cost", "success", "handoff", "incident"),
    )
    """The fields that name a column."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what cannot be a table or a column."""
        yield from super().mistakes(data)
        yield from not_a_table(data.get("table"))
        for name in cls.columns:
            yield from not_a_column((name,), data.get(name))


class RequestLog(Table):
    """One row a request. Metrics whose column is not named are not there.

    :param time: when the request ended.
    :param time_type: how ``time`` is stored; a ``timestamp`` without a time zone is taken for UTC.
    :param slice: the column that a budget's ``slice`` is compared with.
    :param success: gives ``task_success``; NULL is a request that is not judged yet.
    :param latency: gives ``p50``, ``p95`` and every other quantile, from a histogram made by the database.
    :param latency_unit: what ``latency`` is stored in; metrics are in seconds.
    :param fastest: latencies up to here are not distinguished, and those beyond ``slowest`` neither.
    :param handoff: gives ``human_handoff``.
    :param incident: gives ``high_severity_incidents``; NULL is a request without one.
    :param tokens: gives ``tokens_per_request``.
    :param cost: gives ``cost_per_request``.
    """

    positive: ClassVar[tuple[str, ...]] = ("fastest",)

    table: str = Field(examples=["requests"])
    time: str = Field(examples=["finished_at"])
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] = "timestamp"
    version: str = "version"
    slice: str | None = None
    success: FlagColumn | None = None
    latency: str | None = None
    latency_unit: Literal["s", "ms"] = "s"
    fastest: timedelta = timedelta(milliseconds=100)
    slowest: timedelta = timedelta(seconds=60)
    handoff: FlagColumn | None = None
    incident: FlagColumn | None = None
    tokens: str | None = None
    cost: str | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a range of latencies that is none."""
        yield from super().mistakes(data)
        fastest, slowest = cls.peek(data, "fastest"), cls.peek(data, "slowest")
        if fastest and slowest is not None and slowest <= fastest:
            yield mistake(
                ("slowest" if "slowest" in data else "fastest",), "`slowest` must be longer than `fastest`"
            )

    def gives(self, metric: str) -> bool:
        """Whether ``metric`` can be read from this table."""
        if is_quantile(metric):
            return self.latency is not None
        role = ROLES.get(metric)
        return role is not None and getattr(self, role) is not None


class Aggregate(Table):
    """One row a bucket, version and whatever else (rows of one bucket and version are added up).

    :param time: which end of the bucket it is, ``label`` says.
    :param requests: number of requests.
    :param success: number of successful ones; gives ``task_success``. The other columns hold sums, too.
    :param quantiles: columns with ready-made quantiles, in seconds; unknown where one bucket has two rows.
    """

    table: str = Field(examples=["requests_per_minute"])
    time: str = Field(examples=["minute"])
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] = "timestamp"
    label: Literal["start", "end"] = "end"
    version: str = "version"
    slice: str | None = None
    requests: str = Field(examples=["requests"])
    success: str | None = None
    handoff: str | None = None
    incident: str | None = None
    tokens: str | None = None
    cost: str | None = None
    quantiles: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what cannot be a column or a quantile."""
        yield from super().mistakes(data)
        quantiles = data.get("quantiles")
        for metric, name in quantiles.items() if isinstance(quantiles, dict) else ():
            yield from not_a_column(("quantiles", metric), name)
            if not _NAMED_QUANTILE.fullmatch(metric):
                yield mistake(
                    ("quantiles", metric), f"{quote(metric)} is no quantile; name it p95 or ttft_p95", "key"
                )

    def gives(self, metric: str) -> bool:
        """Whether ``metric`` can be read from this table."""
        role = ROLES.get(metric)
        return metric in self.quantiles or (role is not None and getattr(self, role) is not None)


#: Which column of a table each metric comes from.
ROLES = {
    "task_success": "success",
    "human_handoff": "handoff",
    "high_severity_incidents": "incident",
    "tokens_per_request": "tokens",
    "cost_per_request": "cost",
}
