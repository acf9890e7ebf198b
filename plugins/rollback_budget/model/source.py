"""Where a rollout's samples come from, as the spec says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.base import added_later
from rollback_budget.model.by_type import ByType
from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.mistake import Mistake, mistake
from rollback_budget.model.score_table import Scores
from rollback_budget.model.source_settings import SourceSettings
from rollback_budget.model.sql_table import Aggregate, RequestLog
from rollback_budget.registry import Group

__all__ = [
    "HttpJsonSource",
    "PrometheusSource",
    "RecordedSource",
    "Source",
    "SourceSettings",
    "SqlSource",
    "lateness_of",
    "reread_interval_of",
]

PROMETHEUS_LATE = timedelta(minutes=15)

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class SqlSource(SourceSettings):
    """Any common-sql connection.

    :param query: one statement giving ``time, metric, version, value, n`` (and ``le`` for histograms, and
        ``judge``) for every metric; without it each metric's own query is used and all are joined into one.
    :param statement_timeout: after which the database ends a statement.
    :param late: how far back every poll reads again, to report rows that came late.
    :param watermark: a SELECT of one time up to which all rows are in; no look beyond it is decided.
    :param request_log: a table with one row a request, read without any query.
    :param aggregate: a table of counts, one row a bucket, read without any query.
    :param scores: a table with one row a score, such as a judge's; its metrics are read from it, and
        all others as the other keys say.
    """

    positive: ClassVar[tuple[str, ...]] = ("statement_timeout",)

    type: Literal["sql"] = "sql"
    conn_id: str = Field(examples=["request_log"])
    query: str | None = None
    statement_timeout: timedelta = timedelta(seconds=30)
    late: timedelta = timedelta(minutes=5)
    watermark: str | None = None
    request_log: RequestLog | None = None
    aggregate: Aggregate | None = None
    scores: Scores | None = added_later(None)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield two places to read from."""
        yield from super().mistakes(data)
        first, *others = [key for key in ("query", "request_log", "aggregate") if key in data] or [""]
        for other in others:
            yield mistake((other,), f"`{other}` and `{first}` both say where to read; keep one", "key")

    def is_score(self, metric: str) -> bool:
        """Whether ``metric`` is made of scores."""
        return self.scores is not None and self.scores.gives(metric)

    @property
    def log(self) -> RequestLog | Aggregate | None:
        """The table that is read without a query, if any."""
        return self.request_log or self.aggregate


class PrometheusSource(SourceSettings):
    """Prometheus, or what speaks its HTTP API (Thanos, Mimir), behind an Airflow ``http`` connection.

    :param version_label: the label that distinguishes the release from the baseline.
    :param slice_label: the label that holds the slice of a budget.
    :param labels: further labels that every series must have, with their values.
    :param scrape_interval: how often the series are scraped; ranges are made to hold two samples at least.
    :param timeout: for one request.
    :param late: how far back is read again, every third of it, to report what came late (remote write).
    """

    positive: ClassVar[tuple[str, ...]] = ("scrape_interval", "timeout")

    type: Literal["prometheus"] = "prometheus"
    conn_id: str = Field(examples=["prometheus"])
    version_label: str = "version"
    slice_label: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    scrape_interval: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(seconds=30)
    late: timedelta = added_later(
        PROMETHEUS_LATE,
        "How far back is read again, every third of it, to report what came late (remote write).",
    )

    @property
    def reread_every(self) -> timedelta:
        """How often what may come late is read again; a poll has few points, and a server many watches."""
        return self.late / 3

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what cannot be a label."""
        yield from super().mistakes(data)
        version = data.get("version_label", cls.model_fields["version_label"].default)
        labels = data.get("labels") if isinstance(data.get("labels"), dict) else {}
        for place, label in (
            (("version_label",), version),
            (("slice_label",), data.get("slice_label")),
            *((("labels", name), name) for name in labels or {}),
        ):
            if isinstance(label, str) and not _LABEL.fullmatch(label):
                yield mistake(
                    place, f"`{place[0]}` names a label: letters, digits and underscores, as in Prometheus"
                )
        for name in (version, data.get("slice_label")):
            if isinstance(name, str) and labels and name in labels:
                yield mistake(
                    ("labels", name),
                    f"{name} distinguishes versions or slices; it cannot be fixed here",
                    "key",
                )


class RecordedSource(SourceSettings):
    """A file of recorded series: CSV, JSON Lines or Parquet."""

    type: Literal["recorded"] = "recorded"
    path: str = Field(examples=["series.csv"])


Source = Annotated[
    SourceSettings,
    ByType(
        ours=(SqlSource, PrometheusSource, HttpJsonSource, RecordedSource),
        wanted="`source` has a type: `type: sql`, or prometheus, http_json or recorded",
        group=Group.SOURCES,
        base=SourceSettings,
    ),
]


def lateness_of(source: Source | None) -> timedelta:
    """Return how far back is read again."""
    return getattr(source, "late", timedelta(0))


def reread_interval_of(source: Source | None) -> timedelta:
    """Return how often it is read again; 0 is with every poll."""
    return getattr(source, "reread_every", timedelta(0))
