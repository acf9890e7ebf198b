"""The bench of many breaches counts what it says it counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from bench import breaches
from bench.control_plane import ControlPlane, Stats
from bench.exporter import page
from bench.figure import Figure
from bench.fleet import key_of, plan_of

pytestmark = pytest.mark.pure

FOUND = breaches.Found(
    noted={
        "verdicts": {str(key_of(0)): 100.0, str(key_of(1)): 101.0},
        "acted": {str(key_of(0)): 100.5, str(key_of(1)): 103.5},
        "outcomes": {str(key_of(0)): "accepted", str(key_of(1)): "accepted"},
        "threads": 3,
        "late_worst_s": 0.1,
        "at_work_worst_s": 0.05,
        "cpu_s": 1.0,
        "rss_mib": 100.0,
    },
    stats=Stats(requests=4, most_in_flight=2, writes={"0": [100.5], "1": [103.0]}, repeated=0),
    connections=2,
    unrecorded=0,
    floor_s=1.5,
    cores=1.0,
)


@asynccontextmanager
async def running(plane: ControlPlane) -> AsyncIterator[ClientSession]:
    async with TestServer(plane.app()) as server, ClientSession(server.make_url("/")) as client:
        yield client


def missed(found: breaches.Found) -> list[str]:
    return [figure.what for figure in breaches.figures(2, found) if not figure.kept]


def value(found: breaches.Found, what: str) -> float | None:
    [figure] = [figure for figure in breaches.figures(2, found) if figure.what == what]
    return figure.value


def test_each_rollout_of_the_control_plane_is_written_once_by_its_key() -> None:
    async def write_twice() -> Stats:
        plane = ControlPlane(answer_s=0)
        body = {"weights": {"release-00001": 0.0, "baseline-00001": 1.0}}
        async with running(plane) as client:
            for _ in range(2):
                await client.put("/traffic/1", json=body, headers={"Idempotency-Key": "a"})
            one, other = await client.get("/traffic/1"), await client.get("/traffic/2")
            assert (await one.json())["weights"] == body["weights"]
            assert (await other.json())["weights"] == {"release-00002": 0.5, "baseline-00002": 0.5}
        return plane.stats

    stats = asyncio.run(write_twice())
    assert ({name: len(times) for name, times in stats["writes"].items()}, stats["repeated"]) == ({"1": 1}, 1)


def test_requests_that_are_under_way_together_are_counted_together() -> None:
    async def read_together() -> Stats:
        plane = ControlPlane(answer_s=0.2)
        async with running(plane) as client:
            await asyncio.gather(*(client.get(f"/traffic/{number}") for number in range(5)))
        return plane.stats

    assert asyncio.run(read_together())["most_in_flight"] == 5


def test_from_the_breach_on_releases_alone_have_incidents() -> None:
    labels = ['{version="release-00001"}', '{version="baseline-00001"}']
    quiet, breaching = (page(labels, 60, incidents).decode().splitlines() for incidents in (0, 3))
    assert set(breaching) - set(quiet) == {'llm_incidents_total{version="release-00001"} 3'}


def test_every_plan_of_the_fleet_may_move_its_traffic_back() -> None:
    order = plan_of(7, datetime(2026, 10, 1, tzinfo=UTC)).order
    assert order is not None
    assert order.terms.before == ({"release-00007": 0.5, "baseline-00007": 0.5},)
    assert json.loads(order.model_dump_json())["spec"]["target"]["write"]["path"] == "/traffic/7"


def test_a_run_in_which_each_rollback_left_once_and_in_time_keeps_every_target() -> None:
    assert missed(FOUND) == []
    assert value(FOUND, "first verdict to last request") == 3.0
    assert value(FOUND, "each verdict to its request, worst") == 2.0


@pytest.mark.parametrize(
    ("found", "target"),
    [
        (replace(FOUND, stats={**FOUND.stats, "writes": {"0": [100.5]}}), "rollouts not requested"),
        (
            replace(FOUND, stats={**FOUND.stats, "writes": {"0": [100.5], "1": [101.0, 102.0]}}),
            "rollouts not requested",
        ),
        (
            replace(FOUND, stats={**FOUND.stats, "writes": {"0": [100.5], "1": [111.5]}}),
            "each verdict to its request, worst",
        ),
        (replace(FOUND, stats={**FOUND.stats, "most_in_flight": 500}), "requests in flight"),
        (replace(FOUND, unrecorded=1), "final decision, evaluation"),
        (replace(FOUND, connections=500), "connections to the ledger"),
        (replace(FOUND, noted={**FOUND.noted, "verdicts": {str(key_of(0)): 100.0}}), "watches without"),
    ],
)
def test_what_is_lost_doubled_late_or_flooded_misses_a_target(found: breaches.Found, target: str) -> None:
    assert [what for what in missed(found) if what.startswith(target)]


def test_a_figure_that_cannot_be_measured_misses_its_target_only_where_it_has_one() -> None:
    assert Figure("nothing", None, "s").kept
    assert not Figure("nothing", None, "s", 1).kept
