"""A table of scores, read without a query, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from rollback_budget.budget_file import load_budget, preflight_problems
from rollback_budget.engine import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.source import SqlSeries
from tests.sources.sql_tables import EPOCHS, Row, in_cells, request_for, shippable
from tests.support.samples import Place, by_place, means, settled

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 28, 22, tzinfo=UTC)
END = START + 6 * HOUR
BUDGET = shippable(
    "6h",
    """
watch: {blind_after: 3h}
rollback_budget:
  quality:
    - {helpful_delta_pp: -5, max_duration: 2h}
    - {helpful_delta_pp: -9, max_duration: 2h, slice: de}
    - {helpfulness_delta_pct: -5, max_duration: 2h}
    - {correct_below: 0.5, max_duration: 2h}
  safety: {unsafe_increase: 0, action: immediate_rollback}
metrics:
  preset: sql_scores
  helpful: {bucket_by: BY}
  helpfulness: {bucket_by: BY}
  correct: {kind: proportion, every: 1h, lag: 2h, bucket_by: BY}
  unsafe: {kind: count, every: 1h, lag: 2h, bucket_by: BY}
source:
  type: sql
  conn_id: warehouse
  scores: {COLUMNS}
""",
)
COLUMNS = (
    'table: verdicts, time: "askedAt", arrived: came, time_type: TYPE, version: model, slice: country, '
    "name: what, score: mark, label: word, judge: [judge_model, prompt], where: {env: production}, metrics: "
    "{helpful: {score: helpfulness, passes_at: 0.7}, helpfulness: {score: helpfulness}, "
    'correct: {score: correctness, among: [correct, "nearly\'"]}, unsafe: {score: safety, passes_at: 1}}'
)
TABLE = """
    CREATE TABLE verdicts (
        "askedAt" {time}, came {time}, model TEXT, country TEXT, what TEXT, mark DOUBLE PRECISION, word TEXT,
        judge_model TEXT, prompt INT, env TEXT
    )
"""
INSERT = text(
    "INSERT INTO verdicts VALUES (:asked, :came, :version, :country, :what, :mark, :word, :judge, :prompt,"
    " :env)"
)


@pytest.fixture
def rows() -> list[Row]:
    """Scores on the very edges of hours, requests that are not scored yet, and rows that do not belong."""
    draw = random.Random(7)
    milli = timedelta(milliseconds=1)
    times = [START, START + milli, START + HOUR, START + HOUR + milli, END, END + milli]
    span = round((END - START + 4 * HOUR) / milli)
    times += [START - 2 * HOUR + draw.randrange(span) * milli for _ in range(3000)]
    return [
        {
            "asked": time,
            "came": time + draw.randrange(7_200_000) * milli,
            "version": draw.choice(["v1", "v2", "v0"]),
            "country": draw.choice(["de", "fr", None]),
            "what": draw.choice(["helpfulness", "helpfulness", "correctness", "safety", "tone"]),
            "mark": draw.choice([None, 0.0, 0.7, 1.0, draw.random()]),
            "word": draw.choice(["correct", "nearly'", "wrong", None]),
            "judge": "judge-b" if time >= START + 3 * HOUR else "judge-a",
            "prompt": draw.choice([7, None]) if time >= START + 5 * HOUR else 7,
            "env": draw.choice(["production"] * 4 + ["staging"]),
        }
        for time in times
    ]


def load(folder: Path, columns: str = COLUMNS, by: str = "event", kind: str = "timestamp") -> RolloutSpec:
    path = folder / "v2.yaml"
    path.write_text(BUDGET.replace("COLUMNS", columns).replace("TYPE", kind).replace("BY", by))
    return load_budget(path)


def fill(engine: Engine, rows: list[Row], kind: str = "timestamp") -> None:
    on_postgres = engine.dialect.name == "postgresql"
    column, stored = {**EPOCHS, "timestamp": ("TEXT", datetime.isoformat)}[kind]
    if on_postgres and kind == "timestamp":
        column, stored = "TIMESTAMPTZ", lambda time: time
    with engine.begin() as connection:
        connection.execute(text(TABLE.format(time=column)))
        stamped = [{**row, "asked": stored(row["asked"]), "came": stored(row["came"])} for row in rows]
        connection.execute(INSERT, stamped)


asked = partial(request_for, start=START, end=END, step=HOUR)


@pytest.mark.parametrize("kind", ["epoch_s", "epoch_ms", "timestamp"])
@pytest.mark.parametrize(("by", "time"), [("event", "asked"), ("arrival", "came")])
def test_scores_are_counted_as_a_person_counts_them_by_the_time_of_the_request_or_of_the_score(
    engine: Engine, rows: list[Row], tmp_path: Path, kind: str, by: str, time: str
) -> None:
    fill(engine, rows, kind)
    spec = load(tmp_path, by=by, kind=kind)
    assert preflight_problems(spec) == []
    samples = SqlSeries.of(spec, engine).fetch_now(asked(spec))

    def cells(what: str, country: str | None = None) -> dict[Place, list[Row]]:
        def belongs(row: Row) -> bool:
            return (row["what"], row["env"]) == (what, "production") and country in (None, row["country"])

        return in_cells(rows, asked(spec), time, belongs)

    def passes(mark: float) -> Callable[[Row], float | None]:
        return lambda row: None if row["mark"] is None else row["mark"] >= mark

    def is_correct(row: Row) -> float | None:
        return None if row["word"] is None else row["word"] in ("correct", "nearly'")

    assert by_place(samples, "helpful") == means(cells("helpfulness"), passes(0.7))
    assert by_place(samples, "helpful:de") == means(cells("helpfulness", "de"), passes(0.7))
    assert by_place(samples, "helpfulness") == means(cells("helpfulness"), itemgetter("mark"))
    assert by_place(samples, "correct") == means(cells("correctness"), is_correct)
    unsafe = means(cells("safety"), passes(1.0))
    assert by_place(samples, "unsafe") == {place: (share * n, n) for place, (share, n) in unsafe.items()}


def test_a_bucket_names_its_judge_and_several_sorted(engine: Engine, rows: list[Row], tmp_path: Path) -> None:
    fill(engine, rows)
    spec = load(tmp_path)
    samples = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    judges: dict[datetime, set[str | None]] = defaultdict(set)
    for sample in samples:
        if sample.series == "helpfulness":
            judges[sample.time].add(sample.judge)
    assert judges == {
        START + 1 * HOUR: {"judge-a 7"},
        START + 2 * HOUR: {"judge-a 7"},
        START + 3 * HOUR: {"judge-a 7"},
        START + 4 * HOUR: {"judge-b 7"},
        START + 5 * HOUR: {"judge-b 7"},
        START + 6 * HOUR: {"judge-b and judge-b 7"},
    }


def test_a_table_that_says_no_judge_gives_none(engine: Engine, rows: list[Row], tmp_path: Path) -> None:
    fill(engine, rows)
    spec = load(tmp_path, COLUMNS.replace("judge: [judge_model, prompt]", "judge: []"))
    samples = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    assert {sample.judge for sample in samples} == {None}


def test_many_rollouts_are_read_at_once_and_get_what_each_would_alone(
    engine: Engine, rows: list[Row], tmp_path: Path
) -> None:
    fill(engine, rows)
    spec = load(tmp_path)
    source = SqlSeries.of(spec, engine)
    pairs = [asked(spec), asked(spec, "v0", "v1"), asked(spec, "v1", "v9")]
    together = asyncio.run(source.fetch_many(pairs))
    alone = [source.fetch_now(request) for request in pairs]
    assert [settled(samples) for samples in together] == [settled(samples) for samples in alone]
    assert {sample.version for sample in together[2]} == {"v1"}


def test_metrics_of_one_request_may_count_by_either_time(
    engine: Engine, rows: list[Row], tmp_path: Path
) -> None:
    fill(engine, rows)
    both = {by: SqlSeries.of(load(tmp_path, by=by), engine) for by in ("event", "arrival")}
    (tmp_path / "v2.yaml").write_text(
        BUDGET.replace("COLUMNS", COLUMNS)
        .replace("TYPE", "timestamp")
        .replace("helpful: {bucket_by: BY}", "helpful: {bucket_by: arrival}")
        .replace("BY", "event")
    )
    spec = load_budget(tmp_path / "v2.yaml")
    mixed = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    for series, by in (("helpful", "arrival"), ("helpfulness", "event")):
        expected = both[by].fetch_now(asked(spec))
        assert by_place(mixed, series) == by_place(expected, series)


def test_scores_stand_beside_the_log_of_requests(engine: Engine, rows: list[Row], tmp_path: Path) -> None:
    fill(engine, rows, "epoch_s")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE calls (at INT, version TEXT, success INT)"))
        at = int(START.timestamp()) + 5
        insert = text("INSERT INTO calls VALUES (:at, 'v2', :success)")
        connection.execute(insert, [{"at": at, "success": success} for success in (1, 1, 0, 1)])
    log = "  request_log: {table: calls, time: at, time_type: epoch_s, success: success}\n"
    more = "rollback_budget:\n  other: {task_success_delta_pp: -2, max_duration: 2h}\n"
    alone = load(tmp_path, kind="epoch_s")
    path = tmp_path / "v2.yaml"
    path.write_text(
        path.read_text().replace("rollback_budget:\n", more).replace("  scores:", f"{log}  scores:")
    )
    spec = load_budget(path)
    assert preflight_problems(spec) == []
    both = SqlSeries.of(spec, engine).fetch_now(asked(spec))
    of_log = [sample for sample in both if sample.series == "task_success"]
    assert of_log == [Sample(START + HOUR, "task_success", "v2", 0.75, 4.0)]
    of_scores = [sample for sample in both if sample.series != "task_success"]
    assert settled(of_scores) == settled(SqlSeries.of(alone, engine).fetch_now(asked(alone)))


def test_boolean_scores_are_a_proportion(engine: Engine, tmp_path: Path) -> None:
    columns = "table: flags, time: at, score_type: boolean, metrics: {helpful: {score: ok}}"
    spec = load(tmp_path, columns)
    flag = "BOOLEAN" if engine.dialect.name == "postgresql" else "INT"
    with engine.begin() as connection:
        at = "TIMESTAMPTZ" if engine.dialect.name == "postgresql" else "TEXT"
        connection.execute(
            text(f"CREATE TABLE flags (at {at}, version TEXT, name TEXT, score {flag}, judge TEXT)")
        )
        insert = text("INSERT INTO flags VALUES (:at, 'v2', 'ok', :score, 'j')")
        stored = START + HOUR if engine.dialect.name == "postgresql" else (START + HOUR).isoformat()
        for score in (True, True, False, None):
            connection.execute(insert, {"at": stored, "score": score})
    [sample] = SqlSeries.of(spec, engine).fetch_now(SeriesRequest(("helpful",), "v2", "v1", START, END, HOUR))
    assert sample == Sample(START + HOUR, "helpful", "v2", pytest.approx(2 / 3), 3.0, judge="j")


def test_names_and_values_of_scores_are_quoted_and_bound(engine: Engine, tmp_path: Path) -> None:
    hostile = "it's \" ; DROP TABLE x; :x %s"
    columns = (
        'table: select, time: time, time_type: epoch_s, version: order, name: group, score: "table", '
        f"label: group, judge: from, where: {{group: {json.dumps(hostile)}}}, metrics: "
        f"{{correct: {{score: {json.dumps(hostile)}, among: [{json.dumps(hostile)}]}}}}"
    )
    spec = load(tmp_path, columns)
    with engine.begin() as connection:
        connection.execute(
            text('CREATE TABLE "select" ("time" INT, "order" TEXT, "group" TEXT, "table" INT, "from" TEXT)')
        )
        insert = text('INSERT INTO "select" VALUES (:t, :v, :v, 1, :v)')
        connection.execute(insert, {"t": int(START.timestamp()) + 5, "v": hostile})
    request = SeriesRequest(("correct",), hostile, "v1", START, END, HOUR)
    [sample] = SqlSeries.of(spec, engine).fetch_now(request)
    assert (sample.version, sample.value, sample.n, sample.judge) == (hostile, 1.0, 1.0, hostile)


def test_a_score_that_is_no_number_is_no_score(engine: Engine, tmp_path: Path) -> None:
    columns = "table: marks, time: at, time_type: epoch_s, metrics: {helpful: {score: h, passes_at: 0.5}}"
    spec = load(tmp_path, columns)
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE marks (at INT, version TEXT, name TEXT, score DOUBLE PRECISION, judge TEXT)")
        )
        for score in (math.nan, 0.4, 0.5):
            row = {"at": int(START.timestamp()) + 5, "score": score}
            connection.execute(text("INSERT INTO marks VALUES (:at, 'v2', 'h', :score, 'j')"), row)
    [sample] = SqlSeries.of(spec, engine).fetch_now(SeriesRequest(("helpful",), "v2", "v1", START, END, HOUR))
    assert (sample.value, sample.n) == (0.5, 2.0)


def test_preflight_names_what_the_scores_lack(tmp_path: Path) -> None:
    columns = "table: t, time: at, metrics: {correct: {passes_at: 1}, unsafe: {}}"
    text_ = BUDGET.replace("metrics:\n  preset: sql_scores\n", "metrics:\n").replace("COLUMNS", columns)
    text_ = text_.replace("correct: {kind: proportion", "correct: {kind: mean").replace("BY", "arrival")
    text_ = text_.replace("{correct_below: 0.5,", "{correct_below: 0.5, slice: de,")
    (tmp_path / "b.yaml").write_text(text_)
    said = "\n".join(preflight_problems(load_budget(tmp_path / "b.yaml")))
    assert "`metrics.helpful.query` is missing: add its SELECT, or say in `source.scores.metrics`" in said
    assert "`metrics.correct.kind` must be proportion (or count)" in said
    assert "`source.scores.arrived` is missing: unsafe counts when it arrives" in said
    assert "`source.scores.slice` is missing" in said


def test_a_metric_by_arrival_without_the_time_of_arrival_is_an_error_of_the_source(
    engine: Engine, rows: list[Row], tmp_path: Path
) -> None:
    fill(engine, rows)
    (tmp_path / "v2.yaml").write_text(
        BUDGET.replace("  preset: sql_scores\n", "")
        .replace("COLUMNS", COLUMNS.replace("arrived: came, ", ""))
        .replace("TYPE", "timestamp")
        .replace("BY", "arrival")
    )
    spec = load_budget(tmp_path / "v2.yaml")
    with pytest.raises(SourceError, match=r"source\.scores\.arrived"):
        SqlSeries.of(spec, engine).fetch_now(asked(spec))
