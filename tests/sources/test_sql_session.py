"""How the sql source treats a database: it reads only, ends in time, and gives its threads back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest, Source, is_watermarked
from rollback_budget.sources.resilience.circuit_breaker import CircuitBreaker
from rollback_budget.sources.resilience.coalescing import CoalescedSource, ConcurrencyLimit
from rollback_budget.sources.resilience.retry import RetryPolicy
from rollback_budget.sources.sql.session import THREADS, SqlSession
from rollback_budget.sources.sql.source import SqlSeries
from tests.engine.builders import budget, rollout

pytestmark = pytest.mark.database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: Runs for minutes on SQLite.
ENDLESS = """
    WITH RECURSIVE numbers(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM numbers WHERE x < 3000000000)
    SELECT COUNT(*) FROM numbers
"""
QUERY = "SELECT 1767225600 AS time, :release AS version, 1.0 AS value, 1 AS n"


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """The database with an empty table of calls."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE calls (at DOUBLE PRECISION)"))
    return engine


def endless(engine: Engine) -> Any:
    return text("SELECT pg_sleep(300)" if engine.dialect.name == "postgresql" else ENDLESS)


def spec(**source: Any) -> RolloutSpec:
    return rollout(budget()).model_copy(update={"source": SqlSource(conn_id="c", **source)})


def test_a_statement_that_takes_too_long_is_ended_and_worth_a_retry(engine: Engine) -> None:
    session = SqlSession(engine, timedelta(seconds=0.3))
    before = time.monotonic()
    with pytest.raises(SourceError, match=r"longer than 0.3 s .*statement_timeout") as caught:
        session.read_now(endless(engine))
    assert caught.value.transient
    assert time.monotonic() - before < 5
    assert session.read_now(text("SELECT 1"))[0][0] == 1


@pytest.mark.parametrize("statement", ["DELETE FROM calls", "CREATE TABLE more (x INT)"])
def test_nothing_can_be_written(engine: Engine, statement: str) -> None:
    with pytest.raises(SourceError) as caught:
        SqlSession(engine, timedelta(seconds=5)).read_now(text(statement))
    assert not caught.value.transient


async def test_cancelled_readings_stop_in_the_database_and_hold_no_thread(engine: Engine) -> None:
    session = SqlSession(engine, timedelta(seconds=120))
    hanging = [asyncio.create_task(session.read(endless(engine))) for _ in range(2 * THREADS)]
    waiting = asyncio.create_task(session.read(text("SELECT 2")))
    await asyncio.sleep(0)
    for task in hanging:
        task.cancel()
    assert (await asyncio.wait_for(waiting, 30))[0][0] == 2
    assert all(
        isinstance(end, BaseException) for end in await asyncio.gather(*hanging, return_exceptions=True)
    )


async def test_a_watermark_is_the_time_up_to_which_rows_are_in(engine: Engine) -> None:
    source = SqlSeries.of(spec(watermark="SELECT MAX(at) FROM calls"), engine)
    assert is_watermarked(source)
    assert not is_watermarked(SqlSeries.of(spec(), engine))
    assert await source.settled_until() is None
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO calls VALUES (:at), (:at - 9)"), {"at": NOON.timestamp()})
    assert await source.settled_until() == NOON
    several = SqlSeries.of(spec(watermark="SELECT at FROM calls"), engine)
    assert is_watermarked(several)
    with pytest.raises(SourceError, match="must select one time"):
        await several.settled_until()


async def test_rollouts_with_queries_of_their_own_are_one_statement_too(engine: Engine) -> None:
    whole = SqlSeries(engine, {}, "SELECT 'a' AS metric, 7 AS le, q.* FROM (" + QUERY + ") AS q")
    single = SqlSeries(engine, {"a": Metric(query=QUERY)})
    requests = [SeriesRequest(("a",), name, "v1", NOON, NOON, timedelta(minutes=1)) for name in ("x", "y")]
    for source, le in ((whole, 7.0), (single, None)):
        found = await source.fetch_many(requests)
        assert [[(s.version, s.le) for s in samples] for samples in found] == [[("x", le)], [("y", le)]]


def test_a_wrong_password_and_a_missing_database_are_not_worth_a_retry(postgres_url: str) -> None:
    engine = create_engine(postgres_url + "x")
    with pytest.raises(SourceError, match="does not exist") as caught:
        SqlSession(engine, timedelta(seconds=5)).read_now(text("SELECT 1"))
    assert not caught.value.transient


async def test_rollouts_that_share_a_source_share_its_watermark(engine: Engine) -> None:
    asked: list[str] = []

    def saw(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", saw)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO calls VALUES (:at)"), {"at": NOON.timestamp()})
    for source, until in (
        (SqlSeries.of(spec(watermark="SELECT MAX(at) FROM calls"), engine), NOON),
        (SqlSeries.of(spec(), engine), datetime.max.replace(tzinfo=UTC)),
    ):

        async def opened(source: SqlSeries = source) -> Source:
            return source

        policy = RetryPolicy(CircuitBreaker("log"), time_out=timedelta(seconds=30), poll=timedelta(minutes=1))
        shared = CoalescedSource(opened, policy, ConcurrencyLimit(), "key")
        readers = [shared.reader() for _ in range(3)]
        assert await asyncio.gather(*(reader.settled_until() for reader in readers)) == [until] * 3
    assert sum("MAX(at)" in statement for statement in asked) == 1
