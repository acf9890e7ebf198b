"""The preset ``langfuse_scores``, through the real client, against a stand-in of Langfuse's metrics API."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.engine import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.sources.base import SeriesRequest
from tests.support.http_server import Answer, Asked, HttpServer, running_http_server
from tests.support.langfuse import RefusedError, StoredScore, metrics
from tests.support.samples import Place, by_place, means

pytestmark = pytest.mark.airflow

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = """
release: v2
baseline: v1
window: 24h
rollback_budget:
  quality:
    - {task_success_delta_pp: -2, max_duration: 3h}
    - {helpfulness_delta_pct: -5, max_duration: 3h}
    - {correct_delta_pp: -2, max_duration: 3h}
source: {conn_id: api}
metrics: {preset: langfuse_scores}
"""


@pytest.fixture
def scores() -> list[StoredScore]:
    """Five hours of scores, some of traces without a version, and of a name that nobody asks for."""
    draw = random.Random(3)
    return [
        StoredScore(
            NOON - HOUR + draw.random() * 5 * HOUR,
            name,
            value,
            draw.choice(["v1", "v2", "v0", None]),
        )
        for _ in range(800)
        for name, value in (
            ("task_success", float(draw.random() < 0.9)),
            ("helpfulness", draw.random()),
            ("correctness", draw.choice(["correct", "wrong", "nearly"])),
            ("tone", draw.random()),
        )
    ]


@pytest.fixture
def langfuse(scores: list[StoredScore], monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    def answer(asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        assert url.path == "/api/public/v2/metrics"
        try:
            document = metrics(json.loads(parse_qs(url.query)["query"][0]), scores)
        except RefusedError as error:
            return Answer(400, json.dumps({"message": str(error)}).encode())
        return Answer(200, json.dumps(document).encode())

    with running_http_server() as server:
        server.answer = answer
        connection = {"conn_type": "http", "host": server.url, "login": "pk", "password": "sk"}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
        yield server


def fetch(folder: Path, *series: str, rule: str = RULE) -> list[Sample]:
    path = folder / "b.yaml"
    path.write_text(rule)

    async def ask() -> list[Sample]:
        try:
            source = await open_source(load_budget(path))
            return list(await source.fetch(SeriesRequest(series, "v2", "v1", NOON, NOON + 3 * HOUR, HOUR)))
        finally:
            await close_shared_session()

    return asyncio.run(ask())


def expected(
    scores: list[StoredScore], name: str, value: Callable[[Any], float]
) -> dict[Place, tuple[float, int]]:
    cells: dict[Place, list[StoredScore]] = defaultdict(list)
    for score in scores:
        hour = (score.timestamp - NOON) // HOUR
        if score.name == name and score.version in ("v1", "v2") and 0 <= hour < 3:
            cells[NOON + (hour + 1) * HOUR, score.version].append(score)
    return means(cells, lambda score: value(score.value))


def test_scores_of_langfuse_are_shares_and_means_by_the_hour(
    langfuse: HttpServer, scores: list[StoredScore], tmp_path: Path
) -> None:
    samples = fetch(tmp_path, "task_success", "helpfulness", "correct")
    found = {series: by_place(samples, series) for series in ("task_success", "helpfulness", "correct")}
    assert found["task_success"] == expected(scores, "task_success", float)
    assert found["helpfulness"] == expected(scores, "helpfulness", float)
    assert found["correct"] == expected(scores, "correctness", lambda value: value == "correct")
    assert all(len(places) == 6 for places in found.values())
    assert len(langfuse.asked) == 3


def test_an_hour_in_which_no_score_is_of_the_category_has_a_share_of_zero(
    langfuse: HttpServer, scores: list[StoredScore], tmp_path: Path
) -> None:
    scores[:] = [StoredScore(NOON + HOUR / 2, "correctness", "wrong", "v2")] * 4
    assert fetch(tmp_path, "correct") == [Sample(NOON + HOUR, "correct", "v2", 0.0, 4.0)]
    assert len(langfuse.asked) == 1


def test_what_langfuse_refuses_is_an_error_in_its_words(langfuse: HttpServer, tmp_path: Path) -> None:
    query = (
        "{view: scores-numeric, version: colour, series: {task_success: {measure: value, aggregation: avg}}}"
    )
    rule = RULE.replace("{conn_id: api}", f"{{conn_id: api, langfuse: {{queries: [{query}]}}}}")
    with pytest.raises(SourceError, match=r"400.*not in the view scores-numeric") as caught:
        fetch(tmp_path, "task_success", rule=rule)
    assert not caught.value.transient
    assert len(langfuse.asked) == 1


def test_many_categories_that_fill_a_page_are_an_error(
    langfuse: HttpServer, scores: list[StoredScore], tmp_path: Path
) -> None:
    scores[:] = [StoredScore(NOON + HOUR / 2, "correctness", f"{each}", "v2") for each in range(1000)]
    with pytest.raises(SourceError, match=r"the answer is full \(1000 points\)"):
        fetch(tmp_path, "correct")
    assert langfuse.asked
