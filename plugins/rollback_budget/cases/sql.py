"""Failing requests from a database: a table with one row a request, or a statement of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Executable,
    Integer,
    String,
    bindparam,
    cast,
    column,
    func,
    select,
    table,
    text,
)

from rollback_budget.cases.failed_request import FailedRequest, content_of
from rollback_budget.cases.query import FailureQuery
from rollback_budget.exceptions import CaseError
from rollback_budget.model.budget import Worse
from rollback_budget.model.case_source import CaseLog, SqlCases
from rollback_budget.model.sql_table import RequestLog
from rollback_budget.sources.sql.rows import time_of
from rollback_budget.sources.sql.session import SqlSession
from rollback_budget.sources.sql.time_column import TimeColumn

#: Consecutive multiples of this, modulo 2**32, spread evenly (the golden ratio: Knuth, TAOCP 3, 6.4).
_GOLDEN, _RING = 2_654_435_761, 4_294_967_296
_KNOWN = ("input", "output", "trace_id", "time", "slice", "failed")


class SqlFailures:
    """Reads failing requests through one engine, in a read-only transaction that is never committed.

    :param samples: the table that the rollout's samples come from; says what the case table leaves out.
    """

    def __init__(self, source: SqlCases, samples: RequestLog | None, engine: Engine) -> None:
        self._log = None if source.request_log is None else source.request_log.over(samples)
        self._query = source.query
        self._session = SqlSession(engine, source.statement_timeout)
        self._is_sqlite = engine.dialect.name == "sqlite"

    async def failing(self, query: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError or CaseError."""
        statement = self._bound(query) if self._log is None else self._from_log(self._log, query)
        rows = await self._session.read(statement)
        return [_request(row._asdict()) for row in rows if _is_failed(row._asdict())][: query.limit]

    def _from_log(self, log: CaseLog, query: FailureQuery) -> Executable:
        """Return a statement that takes evenly over the window, and from every slice in turn."""
        if log.table is None or log.time is None:
            raise CaseError("cases.source.request_log needs `table` and `time`")
        time = TimeColumn(log.time, log.time_type or "timestamp", self._is_sqlite)
        columns = {
            "input": column(log.input),
            "time": time.epoch(),
            "output": None if log.output is None else column(log.output),
            "trace_id": None if log.trace_id is None else column(log.trace_id),
            "slice": None if log.slice is None else cast(column(log.slice), String),
            **{f"metadata_{name}": column(name) for name in log.metadata},
        }
        named = [value.label(name) for name, value in columns.items() if value is not None]
        wanted = [
            column(log.version or "version") == query.release,
            time.within(query.start, query.end),
            _condition(log, query),
        ]
        if query.slice is not None and log.slice is not None:
            wanted.append(cast(column(log.slice), String) == query.slice)
        schema, _, name = log.table.rpartition(".")
        groups: list[ColumnElement[Any]] = [] if log.slice is None else [column(log.slice)]
        at = func.row_number().over(partition_by=groups or None, order_by=[time.epoch(), column(log.input)])
        rows = (
            select(*named, at.label("at"))
            .select_from(table(name, schema=schema or None))
            .where(*wanted)
            .subquery("failed")
        )
        spread = (cast(rows.c.at, BigInteger) * _GOLDEN) % _RING
        again = [] if log.slice is None else [rows.c.slice]
        turn = func.row_number().over(partition_by=again or None, order_by=spread)
        kept = [rows.c[one.name] for one in named]
        return select(*kept).order_by(turn, rows.c.at).limit(query.limit)

    def _bound(self, query: FailureQuery) -> Executable:
        """Bind what the statement mentions."""
        clause = text((self._query or "").strip().rstrip(";"))
        values = {
            "release": query.release,
            "baseline": query.baseline,
            "metric": query.metric,
            "slice": query.slice,
            "bound": query.bound,
            "limit": query.limit,
            "start": query.start,
            "end": query.end,
            "start_epoch": query.start.timestamp(),
            "end_epoch": query.end.timestamp(),
        }
        mentioned = [name for name in clause.compile().params if name in values]
        return clause.bindparams(*(bindparam(name, values[name]) for name in mentioned))


def _condition(log: CaseLog, query: FailureQuery) -> ColumnElement[bool]:
    """Return what makes a request fail by the breach's metric."""
    flag = log.flag_of(query.metric)
    if flag is not None:
        stored: ColumnElement[Any] = column(flag.column)
        fails = log.marks_failure(query.metric)
        if not flag.among:
            return cast(stored, Integer) == (1 if fails else 0)
        among = cast(stored, String).in_(flag.among)
        return among if fails else stored.is_not(None) & ~among
    number = log.number_of(query.metric)
    if number is not None and query.bound is not None:
        name, scale = number
        value: ColumnElement[Any] = column(name)
        limit = query.bound / scale
        return value > limit if query.worse is Worse.HIGHER else value < limit
    raise CaseError(
        f"cases.source.request_log does not say which requests fail by {query.metric}: add `failed:"
        f" {{{query.metric}: <column>}}`, a column that is 1 for a request that fails"
    )


def _is_failed(row: Mapping[str, Any]) -> bool:
    return "failed" not in row or bool(row["failed"])


def _request(row: Mapping[str, Any]) -> FailedRequest:
    if "input" not in row:
        raise CaseError(
            f"cases.source.query gives no column `input`; it gives {', '.join(row)}. Select what was asked"
            " AS input"
        )
    kept = {name.removeprefix("metadata_"): _json(value) for name, value in row.items() if name not in _KNOWN}
    return FailedRequest(
        input=content_of(_json(row["input"])),
        output=content_of(_json(row.get("output"))),
        trace_id=None if row.get("trace_id") is None else str(row["trace_id"]),
        time=None if row.get("time") is None else time_of(row["time"]),
        slice=None if row.get("slice") is None else str(row["slice"]),
        metadata={name: value for name, value in kept.items() if value is not None},
    )


def _json(value: Any) -> JsonValue:
    """Return a cell as JSON can hold it: databases have types of their own."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value
        case float():
            return value if value - value == 0 else str(value)
        case Decimal():
            return float(value)
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date():
            return value.isoformat()
        case bytes() | memoryview():
            return bytes(value).decode("utf-8", "replace")
        case dict() | list():
            found: JsonValue = json.loads(json.dumps(value, default=str))
            return found
        case _:
            return str(value)
