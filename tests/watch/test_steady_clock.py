"""A wall clock that is set while a watch runs: no burn is gained or lost, and the future is not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine import Sample, evaluate
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, rollout

pytestmark = pytest.mark.pure

SPEC = rollout(watch=Watch(settle=timedelta(0)))
#: Bad for 25 minutes (the budget has 30), good again, and bad for good from minute 300 on.
RELEASE_P95 = [2.1 if 100 <= minute < 125 or minute >= 300 else 1.6 for minute in range(1, 600)]
SAMPLES = arm(RELEASE, RELEASE_P95, n=200) + arm(BASELINE, [1.6] * 599, n=200)


class Backend:
    """Holds what has happened by the true time, and carries its last sample forward for 5 minutes."""

    def __init__(self) -> None:
        self.true_time = START

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        happened = [one for one in SAMPLES if one.time <= self.true_time]
        carried = [
            one._replace(time=one.time + minute * MINUTE)
            for one in happened
            if one.time == self.true_time
            for minute in range(1, 6)
        ]
        return [one for one in happened + carried if request.start < one.time <= request.end]


def watch(off: dict[range, int], spec: RolloutSpec = SPEC) -> tuple[Evaluation | None, datetime]:
    """Watch minute by minute of the true time, with the wall clock off by some minutes at times."""
    backend = Backend()

    def wall() -> datetime:
        minute = int((backend.true_time - START) / MINUTE)
        wrong = next((by for during, by in off.items() if minute in during), 0)
        return backend.true_time + wrong * MINUTE

    async def run() -> Evaluation | None:
        async def open_source(_spec: RolloutSpec) -> Source:
            return backend

        plan = WatchPlan(spec=spec, window_start=START, window_end=START + spec.window)
        watcher = Watcher(
            plan,
            open_source,
            log=logging.getLogger(__name__),
            now=wall,
            elapsed=lambda: (backend.true_time - START).total_seconds(),
        )
        for minute in range(1, 599):
            backend.true_time = at(minute)
            verdict = await watcher.look()
            if verdict is not None:
                return verdict
        return None

    return asyncio.run(run()), backend.true_time


@pytest.mark.parametrize(
    ("off", "latest"),
    [
        ({}, 330),
        ({range(110, 600): 10}, 330),
        ({range(110, 600): -10}, 340),
        ({range(110, 200): 10}, 330),
        ({range(110, 200): -10}, 330),
        ({range(310, 600): 10}, 330),
        ({range(310, 320): -10}, 330),
        ({range(110, 115): 10, range(115, 120): -10, range(310, 315): -10, range(320, 325): 10}, 332),
        ({range(60): -60}, 330),
        ({range(110, 115): -3}, 330),
        ({range(110, 115): -3, range(115, 120): -5}, 330),
        ({range(110, 600): 3}, 330),
    ],
)
def test_the_verdict_is_that_of_replay_however_the_clock_was_set(off: dict[range, int], latest: int) -> None:
    verdict, when = watch(off)
    replayed = evaluate(SPEC, SAMPLES, start=START)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH
    assert verdict.breaches == replayed.breaches
    assert when <= at(latest)


def test_a_clock_that_was_right_to_be_set_forward_is_believed() -> None:
    _, when = watch({range(200): -30})
    assert when == at(330)


@pytest.mark.parametrize("by", [6, 7, 8])
def test_values_that_are_carried_forward_prove_no_clock_whatever_settles(by: int) -> None:
    """What is decided by a clock that is 6 min ahead lies only 4 min ahead where looks settle for 90 s."""
    spec = rollout(watch=Watch(settle=timedelta(seconds=90)))
    verdict, when = watch({range(320, 600): by}, spec)
    assert verdict is not None
    assert verdict.breaches == evaluate(spec, SAMPLES, start=START).breaches
    assert when == at(332)


def test_a_clock_that_is_set_right_before_the_first_look_is_believed() -> None:
    _, when = watch({range(200): -100_000})
    assert when == at(330)
