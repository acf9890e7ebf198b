"""A wall clock that is set while only hourly scores are watched: no hour is judged before it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine import Sample, evaluate
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, rollout

pytestmark = [pytest.mark.pure, pytest.mark.slow]

HOUR = 60
LAG = 10
#: The third bad score in a row uses the budget up.
SPEC = rollout(
    budget("score", minutes=2 * HOUR),
    watch=Watch(stuck_after=timedelta(days=30)),
    metrics={"score": Metric(every=HOUR * MINUTE, lag=LAG * MINUTE)},
)
BAD_FROM = 5 * HOUR
BREACHED_AT = BAD_FROM + 3 * HOUR


def score(version: str, minute: int) -> float:
    """Return the score of a minute: a bad hour is bad in its last third only."""
    bad = version == RELEASE and minute > BAD_FROM and (minute - 1) % HOUR >= 40
    return 5.0 if bad else 1.0


class Table:
    """Scores by the minute, each of which comes some minutes late, and their mean by the hour."""

    def __init__(self) -> None:
        self.true_time = START

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        there = int((self.true_time - START) / MINUTE) - LAG // 2
        hours = range(
            int((request.start - START) / request.step) + 1, int((request.end - START) / request.step) + 1
        )
        return [one for hour in hours for one in self.hour(hour, there)]

    @staticmethod
    def hour(hour: int, there: int) -> list[Sample]:
        minutes = range((hour - 1) * HOUR + 1, min(hour * HOUR, there) + 1)
        return [
            Sample(at(hour * HOUR), "score", version, sum(score(version, m) for m in minutes) / len(minutes))
            for version in (RELEASE, BASELINE)
            if minutes
        ]


def watch(off: dict[range, int]) -> tuple[Evaluation | None, datetime]:
    """Watch minute by minute of the true time, with the wall clock off by some minutes at times."""
    table = Table()

    def wall() -> datetime:
        minute = int((table.true_time - START) / MINUTE)
        wrong = next((by for during, by in off.items() if minute in during), 0)
        return table.true_time + wrong * MINUTE

    async def run() -> Evaluation | None:
        async def open_source(_spec: RolloutSpec) -> Source:
            return table

        watcher = Watcher(
            WatchPlan(spec=SPEC, window_start=START, window_end=START + SPEC.window),
            open_source,
            log=logging.getLogger(__name__),
            now=wall,
            elapsed=lambda: (table.true_time - START).total_seconds(),
        )
        for minute in range(1, 24 * HOUR):
            table.true_time = at(minute)
            verdict = await watcher.look()
            if verdict is not None:
                return verdict
        return None

    return asyncio.run(run()), table.true_time


REPLAYED = evaluate(SPEC, [one for hour in range(1, 25) for one in Table.hour(hour, 24 * HOUR)], start=START)


@pytest.mark.parametrize("by", [7, 45, 75, 180])
@pytest.mark.parametrize("begins", [BAD_FROM - 3, BAD_FROM + 17, BAD_FROM + 33, BAD_FROM + 59])
@pytest.mark.parametrize("lasts", [20, 24 * HOUR])
def test_a_clock_that_is_wrongly_set_forward_reads_no_hour_that_is_not_over(
    by: int, begins: int, lasts: int
) -> None:
    verdict, when = watch({range(begins, begins + lasts): by})
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH
    assert verdict.breaches == REPLAYED.breaches
    assert when == at(BREACHED_AT + LAG)


@pytest.mark.parametrize("by", [130, 180, 600, 50 * 365 * 24 * HOUR])
def test_a_clock_that_was_right_to_be_set_forward_is_believed_within_an_hour(by: int) -> None:
    """As on a host that slept, whose monotonic clock stood still, or that did not know the time at first."""
    wakes = BAD_FROM - HOUR
    verdict, when = watch({range(wakes): -by})
    assert verdict is not None
    assert verdict.breaches == REPLAYED.breaches
    assert when == at(BREACHED_AT + LAG)


def test_a_clock_that_was_right_to_be_set_forward_by_less_keeps_the_watch_late_by_no_more_than_that() -> None:
    verdict, when = watch({range(BAD_FROM): -30})
    assert verdict is not None
    assert verdict.breaches == REPLAYED.breaches
    assert at(BREACHED_AT + LAG) <= when <= at(BREACHED_AT + LAG + 30)


def test_a_clock_that_is_set_back_delays_and_changes_nothing() -> None:
    verdict, when = watch({range(BAD_FROM, 24 * HOUR): -45})
    assert verdict is not None
    assert verdict.breaches == REPLAYED.breaches
    assert when == at(BREACHED_AT + LAG + 45)
