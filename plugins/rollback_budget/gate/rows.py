"""The rows that a launch is checked by: the candidate's in memory, or both versions' in their table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, Float, Select, String, and_, case, cast, func, null, select
from sqlalchemy.sql.elements import ColumnElement

from rollback_budget.evals.read import read_results
from rollback_budget.evals.result import Results
from rollback_budget.evals.row import FAIL, PASS
from rollback_budget.evals.table import column_names, read_table, table_of
from rollback_budget.exceptions import EvalError
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import VERSION, EvalResults, LaunchGate

#: Opens the database behind a connection id.
OpenEngine = Callable[[str], Engine]
#: Between these a float is neither NaN nor infinite, in every database.
_FINITE = 1.7e308


@dataclass(frozen=True)
class SqlRows:
    """Both versions' rows in their database, as a query with the names and types that the gate uses."""

    engine: Engine
    query: Select[tuple[object, ...]]


@dataclass(frozen=True)
class GateData:
    """What was read for one launch.

    :param results: the rows of both versions; those of the candidate only where ``sql`` has both.
    :param sql: set when they are kept in a table.
    """

    results: Results
    sql: SqlRows | None = None


def load_results(gate: LaunchGate, release: str, baseline: str, open_engine: OpenEngine) -> GateData:
    """Read the results of both versions; raises EvalError."""
    where = gate.results
    if where.table is None or where.conn_id is None:
        return GateData(_files(where, gate, release, baseline))
    engine = open_engine(where.conn_id)
    results = read_table(engine, where.table, [release], columns=gate.columns, timeout=where.timeout)
    return GateData(
        results, SqlRows(engine, rows_query(engine, where.table, [release, baseline], gate.columns))
    )


def _files(where: EvalResults, gate: LaunchGate, release: str, baseline: str) -> Results:
    assert where.path is not None
    if VERSION not in where.path:
        return read_results(Path(where.path), format=where.format, columns=gate.columns)
    own = read_results(_path(where.path, release), format=where.format, columns=gate.columns, release=release)
    other = _path(where.path, baseline)
    # Only deltas need the baseline, and they say so when it is not there.
    if not other.exists():
        return own
    theirs = read_results(other, format=where.format, columns=gate.columns, release=baseline)
    return Results(
        origin=f"{own.origin} and {theirs.origin}",
        digest=own.digest,
        cases=(*own.of(release), *theirs.of(baseline)),
    )


def _path(path: str, version: str) -> Path:
    if "/" in version or "\\" in version or version in (".", ".."):
        raise EvalError(f"{version!r} cannot be part of a file's name; keep both versions in one file")
    return Path(path.replace(VERSION, version))


def rows_query(
    engine: Engine, table: str, versions: list[str], columns: Columns
) -> Select[tuple[object, ...]]:
    """Return a query for the versions' rows: ``passed`` as 1 or 0, every number finite, else NULL."""
    has = column_names(engine, table)
    known = (*columns.needed, columns.score, columns.slice)
    source = table_of(table, [name for name in dict.fromkeys(known) if name in has])
    score = _number(source.c[columns.score]) if columns.score in has else cast(null(), Float)
    passed: ColumnElement[float]
    if columns.pass_mark is None:
        word = func.lower(cast(source.c[columns.passed], String))
        passed = case((word.in_(sorted(PASS)), 1.0), (word.in_(sorted(FAIL)), 0.0), else_=null())
        if columns.score in has:
            lost = and_(source.c[columns.score].is_not(None), score.is_(None))
            passed = case((lost, null()), else_=passed)
    else:
        passed = case((score >= columns.pass_mark, 1.0), (score < columns.pass_mark, 0.0), else_=null())
    slice_ = cast(source.c[columns.slice], String) if columns.slice in has else cast(null(), String)
    return select(
        cast(source.c[columns.case_id], String).label("case_id"),
        cast(source.c[columns.release], String).label("release"),
        passed.label("passed"),
        score.label("score"),
        slice_.label("slice"),
        *(_number(source.c[name]).label(name) for name in columns.numbers),
    ).where(source.c[columns.release].in_(versions))


def _number(column: ColumnElement[object]) -> ColumnElement[float]:
    number = cast(column, Float)
    return case((and_(number > -_FINITE, number < _FINITE), number), else_=null())
