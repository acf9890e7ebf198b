"""The preset ``phoenix_evaluations``, on a real PostgreSQL with the tables of Phoenix 20.3.0."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.source import SqlSeries
from tests.sources.sql_tables import Row, in_cells, load_shippable, shippable
from tests.support.samples import Place, by_place, means

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 28, 22, tzinfo=UTC)
#: What it requires of https://github.com/Arize-ai/phoenix/blob/main/src/phoenix/db/models.py.
SCHEMA = """
    CREATE TABLE projects (id BIGSERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE traces (
        id BIGSERIAL PRIMARY KEY, project_rowid BIGINT NOT NULL REFERENCES projects,
        trace_id TEXT NOT NULL UNIQUE, start_time TIMESTAMPTZ NOT NULL, end_time TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE spans (
        id BIGSERIAL PRIMARY KEY, trace_rowid BIGINT NOT NULL REFERENCES traces, span_id TEXT NOT NULL UNIQUE,
        parent_id TEXT, name TEXT NOT NULL, span_kind TEXT NOT NULL, start_time TIMESTAMPTZ NOT NULL,
        end_time TIMESTAMPTZ NOT NULL, attributes JSONB NOT NULL, events JSONB NOT NULL,
        status_code TEXT NOT NULL, status_message TEXT NOT NULL
    );
    CREATE TABLE span_annotations (
        id BIGSERIAL PRIMARY KEY, span_rowid BIGINT NOT NULL REFERENCES spans, name TEXT NOT NULL, label TEXT,
        score DOUBLE PRECISION, explanation TEXT, metadata JSONB NOT NULL,
        annotator_kind TEXT NOT NULL CHECK (annotator_kind IN ('LLM', 'CODE', 'HUMAN')),
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(), updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        identifier TEXT NOT NULL DEFAULT '', source TEXT NOT NULL CHECK (source IN ('API', 'APP')),
        user_id BIGINT, UNIQUE (name, span_rowid, identifier)
    );
"""
TRACE = text("INSERT INTO traces VALUES (:id, :project, :trace, :began, :ended)")
SPAN = text(
    "INSERT INTO spans VALUES (:id, :id, :trace, NULL, 'answer', 'LLM', :began, :ended, "
    "CAST(:attributes AS JSONB), '[]', 'OK', '')"
)
ANNOTATION = text(
    "INSERT INTO span_annotations (span_rowid, name, label, score, metadata, annotator_kind, created_at, "
    "source) VALUES (:id, :name, :label, :score, CAST(:metadata AS JSONB), :kind, :came, 'API')"
)
BUDGET = shippable(
    "6h",
    """
watch: {blind_after: 3m}
rollback_budget:
  quality:
    - {correctness_delta_pp: -5, max_duration: 2h}
    - {hallucination_delta_pp: 3, max_duration: 2h, slice: assistant}
source: {conn_id: phoenix}
metrics:
  preset: phoenix_evaluations
""",
)
REQUEST = SeriesRequest(("correctness", "hallucination:assistant"), "v2", "v1", START, START + 7 * HOUR, HOUR)


@pytest.fixture
def evaluations(engine: Engine) -> list[Row]:
    """Evaluations by a model of two projects, and a person's, which nobody asks for."""
    draw = random.Random(5)
    found = []
    for at in range(600):
        ended = START + draw.random() * 6 * HOUR
        found.append(
            {
                "id": at + 1,
                "project": draw.choice([1, 2]),
                "trace": f"{at:032x}",
                "began": ended - timedelta(seconds=2),
                "ended": ended,
                "version": draw.choice(["v1", "v2", "v0"]),
                "name": draw.choice(["correctness", "hallucination"]),
                "kind": draw.choice(["LLM", "LLM", "HUMAN"]),
                "came": ended + draw.random() * HOUR,
                "passes": draw.random() < 0.6,
            }
        )
    labels = {"correctness": ("incorrect", "correct"), "hallucination": ("grounded", "hallucinated")}
    with engine.begin() as connection:
        connection.exec_driver_sql(SCHEMA)
        connection.exec_driver_sql("INSERT INTO projects (name) VALUES ('assistant'), ('other')")
        for row in found:
            stored = {
                **row,
                "attributes": json.dumps(
                    {"metadata": {"version": row["version"]}, "llm": {"model_name": "m"}}
                ),
                "metadata": json.dumps(
                    {"model": "gpt-judge", "prompt_version": 7} if row["kind"] == "LLM" else {}
                ),
                "label": labels[row["name"]][row["passes"]],
                "score": float(row["passes"]),
            }
            for statement in (TRACE, SPAN, ANNOTATION):
                connection.execute(statement, stored)
    return found


def expected(evaluations: list[Row], name: str, time: str, *projects: int) -> dict[Place, tuple[float, int]]:
    def belongs(row: Row) -> bool:
        return (row["name"], row["kind"]) == (name, "LLM") and row["project"] in projects

    return means(in_cells(evaluations, REQUEST, time, belongs), itemgetter("passes"))


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize(("by", "time"), [("event", "ended"), ("arrival", "came")])
def test_evaluations_of_phoenix_are_shares_of_their_labels_with_the_judge_that_gave_them(
    engine: Engine, evaluations: list[Row], tmp_path: Path, by: str, time: str
) -> None:
    more = f"  correctness: {{bucket_by: {by}}}\n  hallucination: {{bucket_by: {by}}}\n"
    spec = load_shippable(tmp_path, BUDGET + more)
    samples = SqlSeries.of(spec, engine).fetch_now(REQUEST)
    assert by_place(samples, "correctness") == expected(evaluations, "correctness", time, 1, 2)
    assert by_place(samples, "hallucination:assistant") == expected(evaluations, "hallucination", time, 1)
    assert {sample.judge for sample in samples} == {"gpt-judge 7"}
