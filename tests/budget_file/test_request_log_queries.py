"""The queries of ``budgets/defaults.yaml`` give what a person would count by hand."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from rollback_budget.budget_file import load_budget
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.source import SqlSeries

pytestmark = pytest.mark.database

BUDGET = Path(__file__).parents[2] / "budgets" / "model-v42.yaml"
STEP = 60.0
START = 1_700_000_040.0
END = START + 10 * STEP
TABLE = """
    CREATE TABLE requests (
        ts DOUBLE PRECISION, version TEXT, success INT, latency_s DOUBLE PRECISION, handoff INT, incident INT
    )
"""
INSERT = "INSERT INTO requests VALUES (:ts, :version, :success, :latency_s, :handoff, :incident)"


@pytest.fixture
def requests() -> list[dict[str, Any]]:
    """Return a log with hits on the very edges, sizes that try the quantile, and rows that do not belong."""
    draw = random.Random(7)
    times = [START, START + 0.001, START + STEP, START + STEP + 0.001, END, END + 0.001]
    times += [draw.uniform(START - STEP, END + STEP) for _ in range(900)]
    return [
        {
            "ts": ts,
            "version": draw.choice(["model-v42", "model-v41", "model-v40"]),
            "success": int(draw.random() < 0.9),
            "latency_s": draw.choice([0.5, 1.0, draw.uniform(0.1, 9)]),
            "handoff": int(draw.random() < 0.1),
            "incident": int(draw.random() < 0.02),
        }
        for ts in times
    ]


@pytest.fixture(params=["sqlite", "postgres"])
def log(request: pytest.FixtureRequest, requests: list[dict[str, Any]], tmp_path: Path) -> Iterator[Engine]:
    """Return a database that holds the log."""
    on_file = f"sqlite:///{tmp_path / 'log.db'}"
    engine = create_engine(on_file if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    with engine.begin() as connection:
        connection.execute(text(TABLE))
        connection.execute(text(INSERT), requests)
    yield engine
    engine.dispose()


def counted_by_hand(
    requests: list[dict[str, Any]], metric: str
) -> dict[tuple[float, str], tuple[float, int]]:
    """Return value and n by bucket end and version."""
    buckets: dict[tuple[float, str], list[dict[str, Any]]] = defaultdict(list)
    for row in requests:
        if START < row["ts"] <= END and row["version"] in ("model-v42", "model-v41"):
            buckets[math.ceil(row["ts"] / STEP) * STEP, row["version"]].append(row)
    values = {
        "task_success": lambda rows: sum(row["success"] for row in rows) / len(rows),
        "human_handoff": lambda rows: sum(row["handoff"] for row in rows) / len(rows),
        "high_severity_incidents": lambda rows: sum(row["incident"] for row in rows),
        "p95": lambda rows: sorted(row["latency_s"] for row in rows)[math.ceil(len(rows) * 95 / 100) - 1],
    }
    return {place: (values[metric](rows), len(rows)) for place, rows in buckets.items()}


def test_queries_count_what_a_person_counts(log: Engine, requests: list[dict[str, Any]]) -> None:
    spec = load_budget(BUDGET)
    series = tuple(budget.series for budget in spec.budgets)
    start, end = (datetime.fromtimestamp(at, UTC) for at in (START, END))
    asked = SeriesRequest(series, spec.release, spec.baseline, start, end, timedelta(seconds=STEP))
    samples = SqlSeries.of(spec, log).fetch_now(asked)
    for metric in series:
        found = {(s.time.timestamp(), s.version): (s.value, s.n) for s in samples if s.series == metric}
        expected = counted_by_hand(requests, metric)
        assert len(expected) == 20
        assert found.keys() == expected.keys()
        for place, (value, n) in expected.items():
            assert found[place] == (pytest.approx(value, rel=1e-12), n)
