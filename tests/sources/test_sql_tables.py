"""A request log and a table of counts, read without a query, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from rollback_budget.engine import evaluate
from rollback_budget.engine.histogram import quantile_in
from rollback_budget.model.budget import Method
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.histogram_bounds import bounds_for
from rollback_budget.sources.sql.source import SqlSeries
from tests.sources.sql_tables import EPOCHS, Row, in_cells, load_shippable, request_for, shippable
from tests.support.samples import by_place, means, settled

pytestmark = pytest.mark.database

STEP = timedelta(minutes=1)
START = datetime(2026, 3, 28, 23, 50, tzinfo=UTC)
END = START + 20 * STEP
BUDGET = shippable(
    "20m",
    """
metrics: {preset: PRESET}
source: {type: sql, conn_id: log, PRESET: {COLUMNS}}
rollback_budget:
  quality:
    - {task_success_delta_pct: -2, max_duration_min: 8}
    - {task_success_delta_pct: -9, max_duration_min: 8, slice: de}
  safety: {high_severity_incidents_increase: 0, action: immediate_rollback}
  latency: {p95_delta_pct: +15, max_duration_min: 8}
  escalation: {human_handoff_delta_pct: +8, max_duration_min: 8}
  cost: {cost_per_request_delta_pct: +20, max_duration_min: 8}
""",
)
LOG = """
    CREATE TABLE calls (
        "endedAt" {time}, model TEXT, country TEXT, status TEXT, took_ms DOUBLE PRECISION, human {flag},
        severity TEXT, usd DOUBLE PRECISION
    )
"""
LOG_COLUMNS = (
    "table: calls, time: endedAt, time_type: TYPE, version: model, slice: country, latency: took_ms, "
    "latency_unit: ms, handoff: human, success: {column: status, among: [ok, cached]}, "
    "incident: {column: severity, among: [high, critical]}, cost: usd"
)


@pytest.fixture
def rows() -> list[Row]:
    """Hits on the very edges, unjudged requests, and rows that do not belong, around midnight."""
    draw = random.Random(7)
    times = [START, START + timedelta(milliseconds=1), START + STEP, START + STEP + timedelta(milliseconds=1)]
    times += [END, END + timedelta(milliseconds=1)]
    span = (END - START + 4 * STEP).total_seconds() * 1000
    times += [START - 2 * STEP + timedelta(milliseconds=draw.randrange(int(span))) for _ in range(4000)]
    return [
        {
            "time": time,
            "version": draw.choice(["v1", "v2", "v0"]),
            "country": draw.choice(["de", "fr", None]),
            "status": draw.choice(["ok", "ok", "cached", "failed", None]),
            "took_ms": draw.choice([None, 100.0, draw.lognormvariate(7, 1), draw.lognormvariate(7, 1)]),
            "human": draw.random() < 0.1,
            "severity": draw.choice([None, None, "low", "high", "critical"]),
            "usd": draw.choice([None, draw.random()]),
        }
        for time in times
    ]


def load(tmp_path: Path, preset: str, columns: str) -> RolloutSpec:
    return load_shippable(tmp_path, BUDGET.replace("PRESET", preset).replace("COLUMNS", columns))


def fill_log(engine: Engine, rows: list[Row], kind: str) -> None:
    on_postgres = engine.dialect.name == "postgresql"
    column, stored = {
        **EPOCHS,
        "timestamp": ("TEXT", lambda time: time.isoformat().replace("+00:00", "Z")),
    }[kind]
    if on_postgres and kind == "timestamp":
        # Without a time zone, in a database that lives in another one.
        column = "TIMESTAMP"
        stored = lambda time: time.replace(tzinfo=None)  # noqa: E731
    with engine.begin() as connection:
        if on_postgres:
            connection.execute(
                text(f"ALTER DATABASE {engine.url.database} SET timezone = 'America/New_York'")
            )
        connection.execute(text(LOG.format(time=column, flag="BOOLEAN" if on_postgres else "INT")))
        insert = (
            "INSERT INTO calls VALUES (:at, :version, :country, :status, :took_ms, :human, :severity, :usd)"
        )
        connection.execute(text(insert), [{**row, "at": stored(row["time"])} for row in rows])
    engine.dispose()


def is_among(name: str, *good: Any) -> Callable[[Row], float | None]:
    return lambda row: None if row[name] is None else row[name] in good


asked = partial(request_for, start=START, end=END, step=STEP)


@pytest.mark.parametrize("kind", ["epoch_s", "epoch_ms", "timestamp"])
def test_a_request_log_is_counted_as_a_person_counts_it(
    engine: Engine, rows: list[Row], tmp_path: Path, kind: str
) -> None:
    fill_log(engine, rows, kind)
    spec = load(tmp_path, "request_log", LOG_COLUMNS.replace("TYPE", kind))
    statements: list[str] = []

    def saw(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", saw)
    samples = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    assert sum("calls" in statement for statement in statements) == 1
    cells = in_cells(rows, asked(spec))
    assert len(cells) == 40
    succeeds = is_among("status", "ok", "cached")
    assert by_place(samples, "task_success") == means(cells, succeeds)
    assert by_place(samples, "human_handoff") == means(cells, is_among("human", True))
    assert by_place(samples, "high_severity_incidents") == {
        place: (sum(row["severity"] in ("high", "critical") for row in cell), len(cell))
        for place, cell in cells.items()
    }
    in_germany = in_cells(rows, asked(spec), belongs=lambda row: row["country"] == "de")
    assert by_place(samples, "task_success:de") == means(in_germany, succeeds)
    bounds = (*bounds_for(spec, timedelta(milliseconds=100), timedelta(minutes=1)), math.inf)
    for place, cell in cells.items():
        took = [row["took_ms"] / 1000 for row in cell if row["took_ms"] is not None]
        found = {s.le: s.value for s in samples if (s.time, s.version) == place and s.series == "p95"}
        assert found == {bound: sum(value <= bound for value in took) for bound in bounds}


def test_the_latency_histogram_is_fine_enough_for_the_sequential_test(
    engine: Engine, rows: list[Row], tmp_path: Path
) -> None:
    fill_log(engine, rows, "epoch_s")
    spec = load(tmp_path, "request_log", LOG_COLUMNS.replace("TYPE", "epoch_s"))
    verdict = evaluate(spec, SqlSeries.of(spec, engine).fetch_now(asked(spec)), start=START)
    methods = {budget.budget: budget.method for budget in verdict.budgets}
    assert methods["latency.p95_delta_pct"] is Method.SEQUENTIAL
    assert methods["quality.task_success_delta_pct"] is Method.SEQUENTIAL
    assert methods["cost.cost_per_request_delta_pct"] is Method.SIGN


def test_many_rollouts_are_one_statement_and_get_what_each_would_alone(
    engine: Engine, rows: list[Row], tmp_path: Path
) -> None:
    fill_log(engine, rows, "timestamp")
    spec = load(tmp_path, "request_log", LOG_COLUMNS.replace("TYPE", "timestamp"))
    source = SqlSeries.of(spec, engine)
    pairs = [asked(spec), asked(spec, "v0", "v1"), asked(spec, "v1", "v9")]
    together = asyncio.run(source.fetch_many(pairs))
    alone = [source.fetch_now(request) for request in pairs]
    assert [settled(samples) for samples in together] == [settled(samples) for samples in alone]
    assert {sample.version for sample in together[2]} == {"v1"}


def test_a_table_of_counts_is_added_up_by_bucket(engine: Engine, tmp_path: Path) -> None:
    columns = (
        "table: counts, time: minute, time_type: epoch_s, label: start, version: model, requests: calls, "
        "success: good, handoff: humans, incident: bad, cost: usd, slice: region, quantiles: {p95: slow}"
    )
    spec = load(tmp_path, "aggregate", columns)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE counts (minute BIGINT, model TEXT, region TEXT, calls INT, good INT, "
                "humans INT, bad INT, usd DOUBLE PRECISION, slow DOUBLE PRECISION)"
            )
        )
        for at, *values in (
            (START - STEP, "v2", "de", 1, 1, 1, 1, 1.0, 1.0),
            (START, "v2", "de", 10, 9, 1, 0, 2.0, 1.5),
            (START + STEP, "v2", "de", 10, 9, 1, 0, 2.0, 1.5),
            (START + STEP, "v2", "fr", 30, 27, 0, 2, 6.0, 1.7),
            (END, "v2", "de", 1, 1, 1, 1, 1.0, 1.0),
        ):
            row = dict(zip("abcdefghi", (int(at.timestamp()), *values), strict=True))
            connection.execute(text("INSERT INTO counts VALUES (:a, :b, :c, :d, :e, :f, :g, :h, :i)"), row)
    samples = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    first, second = (START + STEP, "v2"), (START + 2 * STEP, "v2")
    assert by_place(samples, "task_success") == {first: (0.9, 10), second: (0.9, 40)}
    assert by_place(samples, "task_success:de") == {first: (0.9, 10), second: (0.9, 10)}
    assert by_place(samples, "high_severity_incidents") == {first: (0, 10), second: (2, 40)}
    assert by_place(samples, "cost_per_request") == {first: (0.2, 10), second: (0.2, 40)}
    slow = {s.time: s.value for s in samples if s.series == "p95"}
    assert slow[START + STEP] == 1.5
    # Two quantiles of two parts say nothing about the whole.
    assert math.isnan(slow[START + 2 * STEP])


def test_names_and_values_of_a_table_are_quoted_and_bound(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(
            text('CREATE TABLE "select" ("time" DOUBLE PRECISION, version TEXT, "order" TEXT)')
        )
        insert = text('INSERT INTO "select" VALUES (:t, :v, :o)')
        hostile = "it's \" ; DROP TABLE x; :x %s"
        connection.execute(insert, {"t": START.timestamp() + 5, "v": hostile, "o": hostile})
    columns = (
        "table: select, time: time, time_type: epoch_s, success: {column: order, among: "
        "['it''s \" ; DROP TABLE x; :x %s']}, handoff: order, incident: order, latency: order, cost: order, "
        "slice: order"
    )
    spec = load(tmp_path, "request_log", columns)
    request = SeriesRequest(("task_success",), hostile, "v1", START, END, STEP)
    [sample] = SqlSeries.of(spec, engine).fetch_now(request)
    assert (sample.version, sample.value, sample.n) == (hostile, 1.0, 1.0)


def test_a_quantile_from_the_histogram_is_near_the_true_one() -> None:
    draw = random.Random(1)
    took = sorted(draw.lognormvariate(0.5, 0.6) for _ in range(5000))
    bounds = [0.1 * 1.0368**step for step in range(178)]
    histogram = {bound: float(sum(value <= bound for value in took)) for bound in bounds}
    assert quantile_in(histogram, 0.95) == pytest.approx(took[4749], rel=0.02)
