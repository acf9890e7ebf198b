"""One way to a metric backend: every kind of watch obeys the rate limit of a backend."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import rollback_budget
from rollback_budget.clock import utc_now
from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_shared_source
from rollback_budget.hooks.recording import read_latest
from rollback_budget.model.metric import Metric
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.operators.preflight import check_baseline
from rollback_budget.recording.plan import plan_of_latest
from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor
from rollback_budget.targets.verification import ReleaseTraffic
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import rollout
from tests.support.http_server import Answer, HttpServer, running_http_server

pytestmark = [pytest.mark.airflow, pytest.mark.service]

POLLS = 4
SPEC = rollout(
    source=PrometheusSource(conn_id="metrics"), metrics={"p95": Metric(query=PrometheusQuery(gauge="p95"))}
)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A Prometheus that limits the rate for an hour."""
    with running_http_server(Answer(429, b"{}", {"Retry-After": "3600"})) as running:
        connection = {"conn_type": "http", "host": running.url}
        monkeypatch.setenv("AIRFLOW_CONN_METRICS", json.dumps(connection))
        monkeypatch.setenv("NO_PROXY", "*")
        yield running


def plan() -> WatchPlan:
    start = utc_now() - timedelta(minutes=10)
    return WatchPlan(spec=SPEC, window_start=start, window_end=start + SPEC.window)


class PlannedSensor(RollbackBudgetSensor):
    """Watches what the test says."""

    def plan(self, context: Any) -> WatchPlan:
        return plan()


class EnoughError(Exception):
    """The trigger has looked as often as it should."""


def poke(times: int, _patch: pytest.MonkeyPatch) -> None:
    sensor = PlannedSensor(task_id="watch", deferrable=False)
    for _ in range(times):
        assert not sensor.poke({}).is_done  # type: ignore[typeddict-item]
        assert sensor._get_next_poke_interval() > 0
    sensor._close()


def poke_anew(times: int, _patch: pytest.MonkeyPatch) -> None:
    """Every poke of a rescheduled sensor is a process of its own."""
    for _ in range(times):
        sensor = PlannedSensor(task_id="watch", deferrable=False, mode="reschedule")
        assert not sensor.poke({}).is_done  # type: ignore[typeddict-item]
        assert sensor._get_next_poke_interval() > 0


def defer(times: int, patch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = Watcher.look

    async def counted(self: Watcher) -> Any:
        nonlocal looks
        looks += 1
        if looks > times:
            raise EnoughError
        return await look(self)

    async def run() -> None:
        try:
            trigger = RollbackBudgetTrigger(
                plan=plan().model_dump_json(), deferred_at="2020-01-01T00:00:00+00:00"
            )
            async for _event in trigger.run():
                pass
        finally:
            await close_shared_session()

    patch.setattr(Watcher, "look", counted)
    patch.setattr(Watcher, "seconds_to_next_look", lambda _self: 0.0)
    with pytest.raises(EnoughError):
        asyncio.run(run())


def verify(times: int, _patch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner() as runner:
        observe = ReleaseTraffic(SPEC, open_shared_source, runner)
        for _ in range(times):
            assert "cannot be known" in observe(utc_now() - timedelta(minutes=30)).said
        runner.run(close_shared_session())


Watch = Callable[[int, pytest.MonkeyPatch], None]


@pytest.mark.parametrize("watch", [poke, defer, verify])
def test_a_rate_limited_backend_gets_one_request_in_four_polls(
    backend: HttpServer, monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    watch(POLLS, monkeypatch)
    assert len(backend.asked) == 1


def test_each_poke_of_a_rescheduled_sensor_asks_once(
    backend: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    poke_anew(POLLS, monkeypatch)
    assert len(backend.asked) == POLLS


def test_preflight_asks_once_and_fails_as_something_that_passes(
    backend: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of_latest(SPEC, timedelta(minutes=9), now=utc_now())
    with pytest.raises(SourceError, match="rate-limited") as caught:
        asyncio.run(read_latest(SPEC, plan))
    assert caught.value.transient
    assert len(backend.asked) == 1
    with caplog.at_level(logging.WARNING):
        assert check_baseline(SPEC, logging.getLogger(__name__)) == {}
    assert len(backend.asked) == 2


def test_a_hiccup_of_the_backend_fails_neither_a_poke_nor_preflight(backend: HttpServer) -> None:
    answers = iter([Answer(503, b"restarting")])
    empty = Answer(200, b'{"status": "success", "data": {"resultType": "matrix", "result": []}}')
    backend.answer = lambda _asked: next(answers, empty)
    plan = plan_of_latest(SPEC, timedelta(minutes=9), now=utc_now())
    assert not asyncio.run(read_latest(SPEC, plan))
    assert len(backend.asked) == 2


@pytest.mark.pure
def test_only_one_place_opens_a_source_by_itself() -> None:
    package = Path(rollback_budget.__file__).parent
    openers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "rollback_budget.hooks.metric_source"
        if "open_source" in {alias.name for alias in node.names}
    }
    assert openers == set()
