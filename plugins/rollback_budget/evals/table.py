"""Evaluation results from a table of a database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Engine, column, inspect, select, table
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError
from sqlalchemy.sql.expression import TableClause

from rollback_budget.evals.result import Results
from rollback_budget.evals.row import check_columns, read_row
from rollback_budget.exceptions import EvalError, SourceError
from rollback_budget.model.eval_columns import AS_NAMED, Columns
from rollback_budget.sources.sql.session import SqlSession


def read_table(
    engine: Engine,
    name: str,
    releases: Sequence[str],
    *,
    columns: Columns = AS_NAMED,
    timeout: timedelta = timedelta(seconds=60),
) -> Results:
    """Return the rows of ``releases``, ordered by release and case; of no other release anything is read.

    :param name: of the table, ``results`` or ``analytics.results``.
    :param columns: those that the table does not need to have are read when it has them.
    :raises EvalError: the table or a column is missing, or the database does not answer.
    """
    has = column_names(engine, name)
    check_columns(f"table {name}", has, columns, None)
    known = (*columns.needed, columns.score, columns.slice, columns.input_sha256)
    source = table_of(name, [one for one in dict.fromkeys(known) if one in has])
    query = (
        select(*source.c)
        .where(source.c[columns.release].in_(list(releases)))
        .order_by(source.c[columns.release], source.c[columns.case_id])
    )
    try:
        rows = SqlSession(engine, timeout).read_now(query)
    except SourceError as error:
        raise EvalError(f"the results in {name} cannot be read: {error}") from error
    cases = tuple(
        read_row(f"{name}: row {number}", dict(row._mapping), columns, None)
        for number, row in enumerate(rows, 1)
    )
    digest = hashlib.sha256()
    for text in sorted(json.dumps(list(row), default=str) for row in rows):
        digest.update(text.encode() + b"\n")
    return Results(origin=f"table {name}", digest=digest.hexdigest(), cases=cases)


def column_names(engine: Engine, name: str) -> list[str]:
    """Return the names of a table's or view's columns; raises EvalError."""
    schema, _, bare = name.rpartition(".")
    try:
        return [str(one["name"]) for one in inspect(engine).get_columns(bare, schema=schema or None)]
    except NoSuchTableError:
        raise EvalError(f"there is no table {name}; let the evaluation write it, or fix the name") from None
    except SQLAlchemyError as error:
        raise EvalError(f"the database of the results in {name} did not answer: {error}") from error


def table_of(name: str, columns: Sequence[str]) -> TableClause:
    """Return a table by its name, ``results`` or ``analytics.results``; names are quoted, never text."""
    schema, _, bare = name.rpartition(".")
    return table(bare, *(column(one) for one in columns), schema=schema or None)
