"""Where every metric is slow: when the first look is recorded, and when a window is watched to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.ledger.watched_by import is_seen_to_its_end
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.model.pace import first_decided, tail_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.watch.watch_plan import WatchPlan
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, rollout
from tests.standby.test_loss import signs
from tests.support.simulated_watch import DAY, Backend, SimulatedWatch

pytestmark = pytest.mark.pure

HOUR = 60 * MINUTE
HOURLY = Metric(every=HOUR, lag=30 * MINUTE)


class Recorded:
    """Keeps when looks were recorded, by the clock of looks that settle."""

    def __init__(self) -> None:
        self.at: list[datetime] = []

    async def looks_until(self, plan: WatchPlan) -> datetime:
        return max(self.at, default=plan.window_start)

    def record(self, plan: WatchPlan, at: datetime, snapshots: Sequence[BudgetSnapshot]) -> None:
        self.at.append(at)

    def alive(self, plan: WatchPlan) -> None:
        pass


def spec_of(**metrics: Metric) -> RolloutSpec:
    return rollout(
        *(budget(name, minutes=180, area=name) for name in metrics),
        watch=Watch(stuck_after=timedelta(days=30)),
        metrics=metrics,
    )


def values(spec: RolloutSpec) -> list[Sample]:
    return [
        Sample(START + place * (metric.every or MINUTE), name, version, 100.0, 50.0)
        for name, metric in spec.metrics.items()
        for place in range(1, int(2 * DAY * MINUTE / (metric.every or MINUTE)))
        for version in (RELEASE, BASELINE)
    ]


def recorded(spec: RolloutSpec, shipped: datetime) -> tuple[list[datetime], datetime]:
    """Watch a window of a day; return when looks were recorded, and when the verdict was there."""
    simulation = SimulatedWatch(
        spec, Backend(values(spec)), window_start=shipped, window_end=shipped + spec.window
    )
    simulation.looks = looks = Recorded()

    async def run() -> datetime:
        simulation.now = shipped
        watcher = simulation.watcher()
        while await watcher.look() is None:
            simulation.now += 5 * MINUTE
        return simulation.now

    return looks.at, asyncio.run(run())


SPECS = {
    "one": spec_of(score=HOURLY),
    "two": spec_of(score=HOURLY, cost=Metric(every=30 * MINUTE, lag=10 * MINUTE)),
    "late": spec_of(score=Metric(every=HOUR, lag=3 * HOUR), cost=Metric(every=20 * MINUTE, lag=10 * MINUTE)),
    "by arrival": spec_of(score=Metric(every=HOUR, lag=30 * MINUTE, bucket_by=BucketBy.ARRIVAL)),
    "beside a fast one": spec_of(score=HOURLY, p95=Metric()),
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("minute", [0, 10, 40, 59])
def test_a_window_is_watched_to_its_end_with_its_last_look_and_not_before(kind: str, minute: int) -> None:
    spec, shipped = SPECS[kind], at(minute)
    looks, _ = recorded(spec, shipped)
    end = shipped + spec.window
    ends = [
        is_seen_to_its_end(signs(end, window_end=end, looked_at=look), spec.watch, tail_of(spec, end))
        for look in looks
    ]
    assert ends == [False] * (len(looks) - 1) + [True]


@pytest.mark.parametrize("kind", SPECS)
def test_the_first_look_of_a_window_that_begins_with_the_hour_is_recorded_when_it_is_said_to_be(
    kind: str,
) -> None:
    spec = SPECS[kind]
    looks, _ = recorded(spec, START)
    expected = START + spec.watch.step + first_decided(spec)
    # Half an hour is left out at first, and the look that begins within an hour is the second one.
    assert looks[0] == (expected + 30 * MINUTE if kind == "by arrival" else expected)


def test_an_hourly_score_half_an_hour_late_is_watched_to_its_end_half_an_hour_after_its_last_hour() -> None:
    spec = SPECS["one"]
    for minute, last in ((0, 24 * 60), (40, 24 * 60)):
        _, ended = recorded(spec, at(minute))
        assert at(last + 30) <= ended < at(last + 35)
        tail = tail_of(spec, at(minute + 24 * 60))
        assert tail == timedelta(minutes=last + 30 - minute - 24 * 60) - spec.watch.settle
