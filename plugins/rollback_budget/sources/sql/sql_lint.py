"""Remarks about SQL that people wrote: what would hide missing data, or read a whole table at every poll."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

#: The bound parameters that say which time is asked for.
_RANGE = frozenset({"start", "end", "start_epoch", "end_epoch"})
#: The database is not known before its connection is opened: what one of these can parse is SQL.
_DIALECTS = (
    None,
    "postgres",
    "mysql",
    "bigquery",
    "snowflake",
    "clickhouse",
    "tsql",
    "oracle",
    "duckdb",
    "hive",
)
#: What the columns of a query are called where it does not name them.
_COLUMNS_OF_ONE = ("time", "version", "value", "n")
_COLUMNS_OF_ALL = ("time", "metric", "version", "value", "n")


def sql_remarks(spec: RolloutSpec) -> Iterator[str]:
    """Yield a sentence for each doubt about the queries of the metrics that budgets are on."""
    written = dict(_texts(spec))
    if not written:
        return
    try:
        import sqlglot  # noqa: F401 - whether it is there
    except ImportError:
        yield (
            f"{', '.join(f'`{place}`' for place in written)} is SQL of your own, which is not checked: "
            "install rollback-budget[lint]"
        )
        return
    for place, (text, columns) in written.items():
        yield from _remarks(place, text, columns)


def _texts(spec: RolloutSpec) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    source = spec.source
    assert isinstance(source, SqlSource)
    if source.query is not None:
        yield "source.query", (source.query, _COLUMNS_OF_ALL)
        return
    for name in dict.fromkeys(budget.metric for budget in spec.budgets):
        query = spec.metric(name).query
        if source.log is None and not source.is_score(name) and isinstance(query, str):
            yield f"metrics.{name}.query", (query, _COLUMNS_OF_ONE)


def _remarks(place: str, text: str, columns: tuple[str, ...]) -> Iterator[str]:
    from sqlglot import exp

    statements, error = _parsed(text)
    if error is not None:
        yield f"`{place}` is no SQL that can be parsed here ({error}); preflight asks the database"
        return
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        yield f"`{place}` must be one SELECT: it is read in a transaction that is read-only"
        return
    query = statements[0]
    asked_for = {parameter.name for parameter in query.find_all(exp.Placeholder, exp.Parameter)}
    if not asked_for & _RANGE:
        yield (
            f"`{place}` reads every row with every poll: bound its time, such as "
            "`finished_at > :start AND finished_at <= :end`"
        )
    if any(_is_filled_in(select, columns) for select in _selects(query)):
        yield (
            f"`{place}` gives a constant as `value` where there is NULL: missing data looks like a value. "
            "Leave NULL as it is; that look is unknown"
        )


def _parsed(text: str) -> tuple[list[Expr], str | None]:
    """Return the statements, or what is wrong for every dialect."""
    from sqlglot import parse
    from sqlglot.errors import SqlglotError

    errors = []
    for dialect in _DIALECTS:
        try:
            return [statement for statement in parse(text, dialect=dialect) if statement is not None], None
        except SqlglotError as error:
            errors.append(" ".join(f"{error}".split("\n")[0].split()))
    return [], errors[0]


def _selects(query: Expr) -> Iterator[Expr]:
    """Yield the SELECTs whose rows the query gives."""
    from sqlglot import exp

    if isinstance(query, exp.SetOperation):
        yield from _selects(query.left)
        yield from _selects(query.right)
    elif isinstance(query, exp.Subquery):
        yield from _selects(query.this)
    else:
        yield query


def _is_filled_in(select: Expr, columns: tuple[str, ...]) -> bool:
    """Whether a constant stands in for missing values."""
    from sqlglot import exp

    assert isinstance(select, exp.Select)
    for place, given in enumerate(select.selects):
        name = given.alias_or_name or (columns[place] if place < len(columns) else "")
        value = given.unalias().unnest()
        if name.lower() == "value" and isinstance(value, exp.Coalesce):
            return any(isinstance(other.unnest(), exp.Literal | exp.Neg) for other in value.expressions)
    return False
