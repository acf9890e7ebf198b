"""Where a rollout's samples come from, as the spec says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rollback_budget.spec.frozen import Frozen


class SqlSource(Frozen):
    """Any common-sql connection.

    :param query: one statement giving ``time, metric, version, value, n`` for every metric; without it each
        metric's own query is used and all are joined into one statement.
    """

    type: Literal["sql"] = "sql"
    conn_id: str
    query: str | None = None


class RecordedSource(Frozen):
    """A file of recorded series: CSV, JSON Lines or Parquet."""

    type: Literal["recorded"] = "recorded"
    path: str


Source = Annotated[SqlSource | RecordedSource, Field(discriminator="type")]
