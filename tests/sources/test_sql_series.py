"""The sql source, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.source import SqlSeries

pytestmark = pytest.mark.database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "v2'; DROP TABLE samples; -- {{ ti }} \" \n :release"
QUERY = """
SELECT epoch AS time, version, value, n FROM samples
WHERE metric = '{metric}' AND version IN (:release, :baseline)
  AND epoch > :start_epoch AND epoch <= :end_epoch
"""


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE samples (metric TEXT, version TEXT, slice TEXT, epoch DOUBLE PRECISION, "
                "value DOUBLE PRECISION, n INT)"
            )
        )
    yield engine
    engine.dispose()


def put(engine: Engine, *rows: tuple[Any, ...]) -> None:
    names = ("metric", "version", "slice", "epoch", "value", "n")
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO samples VALUES (:metric, :version, :slice, :epoch, :value, :n)"),
            [dict(zip(names, row, strict=True)) for row in rows],
        )


def request_for(*series: str, release: str = "v2") -> SeriesRequest:
    return SeriesRequest(series, release, "v1", NOON, NOON + timedelta(minutes=5), timedelta(minutes=1))


def fetch(source: SqlSeries, request: SeriesRequest) -> Sequence[Sample]:
    return asyncio.run(source.fetch(request))


def minute(number: int) -> float:
    return (NOON + timedelta(minutes=number)).timestamp()


def test_all_metrics_and_both_versions_are_one_statement_off_the_event_loop(engine: Engine) -> None:
    put(
        engine,
        ("success", "v2", None, minute(1), 0.9, 10),
        ("success", "v1", None, minute(1), 0.8, 20),
        ("handoff", "v2", None, minute(2), None, None),
        ("success", "v2", None, minute(0), 0.1, 1),
        ("success", "v9", None, minute(1), 0.1, 1),
    )
    seen: list[str] = []

    def saw(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM samples" in statement:
            seen.append(threading.current_thread().name)

    event.listen(engine, "before_cursor_execute", saw)
    metrics = {name: Metric(query=QUERY.format(metric=name)) for name in ("success", "handoff")}
    samples = fetch(SqlSeries(engine, metrics), request_for("success", "handoff"))
    assert len(seen) == 1
    assert seen[0] != threading.main_thread().name
    found = {(s.series, s.version): (s.time, s.value, s.n) for s in samples if s.series == "success"}
    first = NOON + timedelta(minutes=1)
    assert found == {("success", "v2"): (first, 0.9, 10), ("success", "v1"): (first, 0.8, 20)}
    [unknown] = [sample for sample in samples if sample.series == "handoff"]
    assert unknown.value != unknown.value
    assert unknown.n is None


def test_one_query_may_give_every_metric(engine: Engine) -> None:
    put(engine, ("a", "v2", None, minute(1), 1, 1), ("b", "v1", None, minute(1), 2, 1))
    query = "SELECT epoch AS time, metric, version, value, n FROM samples WHERE epoch > :start_epoch;"
    samples = fetch(SqlSeries(engine, {}, query), request_for("a"))
    assert [(sample.series, sample.value) for sample in samples] == [("a", 1)]


def test_a_query_may_say_what_scored_its_values(engine: Engine) -> None:
    put(engine, ("a", "v2", "judge 7", minute(1), 1, 1), ("b", "v2", "x", minute(1), 2, 1))
    bare = QUERY.format(metric="b")
    judged = QUERY.format(metric="a").replace("n FROM", "n, slice AS judge FROM")
    only_read = QUERY.format(metric="a").replace("WHERE", "WHERE slice <> 'no judge' AND")
    metrics = {"a": Metric(query=judged), "b": Metric(query=bare), "c": Metric(query=only_read)}
    samples = fetch(SqlSeries(engine, metrics), request_for("a", "b", "c"))
    found = [(sample.series, sample.value, sample.judge) for sample in samples]
    assert sorted(found) == [("a", 1, "judge 7"), ("b", 2, None), ("c", 1, None)]
    query = "SELECT epoch AS time, metric, version, value, n, slice AS judge FROM samples;"
    samples = fetch(SqlSeries(engine, {}, query), request_for("a", "b"))
    assert sorted((sample.series, sample.judge) for sample in samples) == [("a", "judge 7"), ("b", "x")]


def test_names_are_bound_and_never_part_of_the_statement(engine: Engine) -> None:
    put(engine, ("success", HOSTILE, None, minute(1), 0.9, 10))
    metrics = {"success": Metric(query=QUERY.format(metric="success"))}
    [sample] = fetch(SqlSeries(engine, metrics), request_for("success", release=HOSTILE))
    assert sample.version == HOSTILE


def test_slices_of_one_metric_are_distinguished(engine: Engine) -> None:
    put(engine, ("success", "v2", "de", minute(1), 0.5, 10), ("success", "v2", "fr", minute(1), 0.9, 10))
    query = "SELECT epoch AS time, version, value, n FROM samples WHERE slice = :slice"
    metrics = {"success": Metric(query=query)}
    samples = fetch(SqlSeries(engine, metrics), request_for("success:de", "success:fr"))
    assert {sample.series: sample.value for sample in samples} == {"success:de": 0.5, "success:fr": 0.9}


def test_a_timestamp_with_a_time_zone_is_read_and_one_without_is_an_error(engine: Engine) -> None:
    aware = "SELECT '2026-03-01T13:01:00+01:00' AS time, 'v2' AS version, 1.0 AS value, 1 AS n"
    [sample] = fetch(SqlSeries(engine, {"a": Metric(query=aware)}), request_for("a"))
    assert sample.time == NOON + timedelta(minutes=1)
    naive = aware.replace("+01:00", "")
    with pytest.raises(SourceError, match="has no time zone") as caught:
        fetch(SqlSeries(engine, {"a": Metric(query=naive)}), request_for("a"))
    assert not caught.value.transient


@pytest.mark.parametrize("query", ["SELECT * FROM nowhere", "SELEKT 1", None])
def test_a_query_that_is_rejected_is_not_worth_a_retry(engine: Engine, query: str | None) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(SqlSeries(engine, {"a": Metric(query=query)}), request_for("a"))
    assert not caught.value.transient


def test_a_database_that_is_unavailable_is_worth_a_retry(free_port: int) -> None:
    gone = create_engine(f"postgresql+psycopg2://nobody@127.0.0.1:{free_port}/none")
    with pytest.raises(SourceError, match="did not answer") as caught:
        fetch(SqlSeries(gone, {"a": Metric(query="SELECT 1")}), request_for("a"))
    assert caught.value.transient
