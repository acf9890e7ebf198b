"""Three days of a request log, on SQLite and a real PostgreSQL, recorded, killed, and gone on with."""

from __future__ import annotations

import json
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text

from rollback_budget.recording.parts import folder_of
from rollback_budget.sources.recorded import read_series
from tests.recording.command import CommandProcess, run
from tests.support.command_line import Run
from tests.support.network import wait_until
from tests.support.postgres import Postgres

pytestmark = pytest.mark.database

__all__ = ["run"]

BEGIN = datetime(2026, 3, 27, 22, 30, tzinfo=UTC)
DAYS = 3
BUDGET = """\
release: model-v42
baseline: model-v41
window: 72h
rollback_budget:
  quality:
    task_success_delta_pp: -2
    max_duration_min: 60
  latency:
    p95_delta_pct: +100
    max_duration_min: 60
  cost:
    cost_per_request_delta_pct: +20
    max_duration_min: 60
metrics: {preset: request_log}
watch: {step: 5m, max_gap: 15m, blind_after: 1h}
source:
  type: sql
  conn_id: request_log
  request_log:
    {table: calls, time: ended_at, time_type: epoch_s, version: model, success: ok, latency: took, cost: usd}
"""
RANGE = ("--from", BEGIN.isoformat(), "--to", (BEGIN + timedelta(days=DAYS)).isoformat())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a connection to the log of three days."""
    database, connection = f"sqlite:///{tmp_path / 'log.db'}", f"sqlite:///{quote(str(tmp_path / 'log.db'))}"
    if request.param == "postgres":
        connection = request.getfixturevalue("postgres_url")
        database = connection.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(database)
    draw, first = random.Random(3), BEGIN.timestamp()
    rows = [
        {
            "ended_at": first + draw.randrange(DAYS * 86_400_000) / 1000,
            "model": draw.choice(["model-v41", "model-v42", "model-v40"]),
            "ok": int(draw.random() < 0.9),
            "took": draw.lognormvariate(0, 0.5),
            # Sums of these are exact, in whichever order the database reads them.
            "usd": draw.randrange(1, 20) / 1024,
        }
        for _ in range(30_000)
    ]
    with engine.begin() as writing:
        columns = (
            "ended_at DOUBLE PRECISION, model TEXT, ok INTEGER, took DOUBLE PRECISION, usd DOUBLE PRECISION"
        )
        writing.execute(text(f"CREATE TABLE calls ({columns})"))
        writing.execute(text("INSERT INTO calls VALUES (:ended_at, :model, :ok, :took, :usd)"), rows)
        writing.execute(text("CREATE INDEX by_time ON calls (ended_at)"))
    engine.dispose()
    monkeypatch.setenv("AIRFLOW_CONN_REQUEST_LOG", connection)
    return connection


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    path = tmp_path / "model-v42.yaml"
    path.write_text(BUDGET)
    return path


def test_killed_between_pages_and_gone_on_with_the_file_is_the_same(
    url: str, budget: Path, run: Run, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    assert run("record", budget, *RANGE, "-o", whole, "--page", "3d")[0] == 0
    command = ("record", budget, *RANGE, "-o", cut, "--page", "30m")
    process = CommandProcess(tmp_path / "home", {"request_log": url}, *command)
    code, _, _ = process.end_when(lambda: len(list(folder_of(cut).glob("*.page"))) > 20, signal.SIGKILL)
    assert (code, cut.exists()) == (-signal.SIGKILL, False)
    read = len(list(folder_of(cut).glob("*.page")))
    code, _, err = run("record", budget, *RANGE, "-o", cut, "--page", "7h")
    assert (code, read < 2 * 24 * DAYS) == (0, True)
    assert "goes on with" in err
    assert cut.read_bytes() == whole.read_bytes()


def test_what_was_recorded_replays_to_what_a_live_replay_says(
    url: str, budget: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "days.parquet"
    assert run("record", budget, *RANGE, "-o", file)[0] == 0
    code, out, _ = run("replay", budget, "--series", file, "--json")
    live_code, live, _ = run("replay", budget, "--live", *RANGE, "--json")
    assert (code, json.loads(out)) == (live_code, json.loads(live))
    assert json.loads(out)["budgets"][0]["looks"] == DAYS * 24 * 12
    code, effect, _ = run("design-effect", budget, "--series", file, "--json")
    assert (code, effect) == run("design-effect", budget, *RANGE, "--json")[:2]


def test_a_past_rollout_is_recorded_and_replayed_by_its_own_versions(
    url: str, budget: Path, run: Run, tmp_path: Path
) -> None:
    past, file = ("--release", "model-v41", "--baseline", "model-v40"), tmp_path / "past.csv"
    assert run("record", budget, *RANGE, "-o", file, *past)[0] == 0
    assert {sample.version for sample in read_series(file)} == {"model-v41", "model-v40"}
    code, out, err = run("replay", budget, "--series", file, "--json", *past)
    assert (code, err) == (0, "")
    assert json.loads(out)["budgets"][0]["unknown_looks"] == 0


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_database_that_stops_in_the_middle_costs_only_time(
    postgres: Postgres, url: str, budget: Path, run: Run, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    assert run("record", budget, *RANGE, "-o", whole)[0] == 0
    command = ("record", budget, *RANGE, "-o", cut, "--page", "30m")
    process = CommandProcess(tmp_path / "home", {"request_log": url}, *command)
    wait_until(lambda: len(list(folder_of(cut).glob("*.page"))) > 5, within_s=120, what="some pages")
    postgres.stop()
    try:
        code, _, err = process.end()
    finally:
        postgres.start()
    assert (code, cut.exists()) == (1, False)
    assert "give the same command again to go on" in err
    assert run(*command)[0] == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_what_the_watermark_says_is_not_in_yet_is_left_out(
    url: str, budget: Path, run: Run, tmp_path: Path
) -> None:
    until = (BEGIN + timedelta(hours=5, minutes=33)).timestamp()
    text_of = budget.read_text()
    budget.write_text(f"{text_of.rstrip()}\n  watermark: SELECT MAX(ended_at) * 0 + {until} FROM calls\n")
    code, out, _ = run("record", budget, *RANGE, "-o", tmp_path / "days.csv", "--json")
    assert (code, json.loads(out)["end"]) == (0, "2026-03-28T04:00:00Z")
    assert max(sample.time for sample in read_series(tmp_path / "days.csv")) <= BEGIN + timedelta(hours=5.5)
    for watermark, complaint in (
        ("MAX(ended_at) - 1e9", "values are in until"),
        ("MAX(ended_at) FROM calls WHERE model = 'none'; --", "no row is in yet"),
    ):
        budget.write_text(f"{text_of.rstrip()}\n  watermark: SELECT {watermark} FROM calls\n")
        code, _, err = run("record", budget, *RANGE, "-o", tmp_path / "none.csv")
        assert code == 1
        assert complaint in err
