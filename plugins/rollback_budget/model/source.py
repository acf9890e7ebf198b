"""Where a rollout's samples come from, as the spec says it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from rollback_budget.model.base import Frozen
from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.sql_table import Aggregate, RequestLog


class SqlSource(Frozen):
    """Any common-sql connection.

    :param query: one statement giving ``time, metric, version, value, n`` (and ``le``, for histograms) for
        every metric; without it each metric's own query is used and all are joined into one statement.
    :param statement_timeout: after which the database ends a statement.
    :param late: how far back every poll reads again, to report rows that came late.
    :param watermark: a SELECT of one time up to which all rows are in; no look beyond it is decided.
    :param request_log: a table with one row a request, read without any query.
    :param aggregate: a table of counts, one row a bucket, read without any query.
    """

    type: Literal["sql"] = "sql"
    conn_id: str
    query: str | None = None
    statement_timeout: timedelta = timedelta(seconds=30)
    late: timedelta = timedelta(minutes=5)
    watermark: str | None = None
    request_log: RequestLog | None = None
    aggregate: Aggregate | None = None

    @property
    def log(self) -> RequestLog | Aggregate | None:
        """The table that is read without a query, if any."""
        return self.request_log or self.aggregate


class PrometheusSource(Frozen):
    """Prometheus, or what speaks its HTTP API (Thanos, Mimir), behind an Airflow ``http`` connection.

    :param version_label: the label that tells the release from the baseline.
    :param slice_label: the label that holds the slice of a budget.
    :param labels: further labels that every series must have, with their values.
    :param scrape_interval: how often the series are scraped; ranges are made to hold two samples at least.
    :param timeout: for one request.
    """

    type: Literal["prometheus"] = "prometheus"
    conn_id: str
    version_label: str = "version"
    slice_label: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    scrape_interval: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(seconds=30)


class RecordedSource(Frozen):
    """A file of recorded series: CSV, JSON Lines or Parquet."""

    type: Literal["recorded"] = "recorded"
    path: str


Source = Annotated[
    SqlSource | PrometheusSource | HttpJsonSource | RecordedSource, Field(discriminator="type")
]


def lateness_of(source: Source | None) -> timedelta:
    """Return how far back every poll reads again."""
    return getattr(source, "late", timedelta(0))
