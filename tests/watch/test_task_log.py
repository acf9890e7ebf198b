"""What a person reads in the task log of a watch, driven through hours on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from rollback_budget.clock import Log
from rollback_budget.engine import Sample
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.budget import Comparison, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import Source
from rollback_budget.watch.task_log import TaskLog
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, RELEASE, START, arm, at, budget, rollout
from tests.support.simulated_watch import Backend

pytestmark = pytest.mark.pure

DAY = 24 * 60
P95, SUCCESS = "latency.p95_delta_pct", "quality.task_success_delta_pp"


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, *args: object) -> None:
        self.lines.append(event % args)

    def warning(self, event: str, *args: object) -> None:
        self.lines.append("WARNING " + event % args)

    def status(self) -> list[str]:
        return [line for line in self.lines if " left | " in line]

    def changes(self) -> list[str]:
        return [line for line in self.lines if " left | " not in line]


def spec() -> RolloutSpec:
    return rollout(
        budget(minutes=30),
        budget("task_success", Comparison.DELTA_PP, -2.0, area="quality", minutes=20, worse=Worse.LOWER),
        # What these watches see stands still, and that is not what is told of here.
        watch=Watch(settle=timedelta(0), blind_after=timedelta(hours=2), stuck_after=timedelta(days=2)),
        metrics={
            "task_success": Metric(kind=MetricKind.PROPORTION),
            "p95": Metric(kind=MetricKind.QUANTILE, unit="s"),
        },
    )


def traffic(p95: Callable[[int], float], until: int = DAY) -> list[Sample]:
    minutes = range(1, until + 1)
    return [
        *arm(RELEASE, [p95(minute) for minute in minutes], n=194),
        *arm(BASELINE, [1.6] * until, n=193),
        *arm(RELEASE, [0.9] * until, n=194, metric="task_success"),
        *arm(BASELINE, [0.9] * until, n=193, metric="task_success"),
    ]


def read_log(
    samples: Sequence[Sample],
    *,
    down: tuple[float, float] | None = None,
    first: int = 1,
    last: int = DAY,
    suspended: Suspension | None = None,
) -> tuple[Lines, Evaluation | None]:
    lines, now = Lines(), START
    backend = Backend(samples, down)

    async def open_source(_spec: RolloutSpec) -> Source:
        return backend

    async def suspensions(_plan: WatchPlan, _as_of: object, _log: Log) -> tuple[Suspension, ...]:
        return () if suspended is None else (suspended,)

    async def run() -> Evaluation | None:
        nonlocal now
        plan = WatchPlan(spec=spec(), window_start=START, window_end=START + spec().window)
        now = at(first)
        watcher = Watcher(plan, open_source, log=lines, suspensions=suspensions, now=lambda: now)
        for minute in range(first, last + 1):
            now = at(minute)
            verdict = await watcher.look()
            if verdict is not None:
                return verdict
        return None

    return lines, asyncio.run(run())


def test_a_quiet_day_is_one_line_in_ten_minutes_and_nothing_else() -> None:
    log, verdict = read_log(traffic(lambda _: 1.6))
    assert verdict is not None
    assert log.changes() == []
    assert len(log.lines) == 1 + 24 * 6
    assert log.lines[1] == (
        f"12:10 UTC, 23 h 50 min left | {P95} good ▱▱▱▱▱▱▱▱▱▱ 0 min of 30 min burnt, 9 looks"
        f" | {SUCCESS} good ▱▱▱▱▱▱▱▱▱▱ 0 min of 20 min burnt, 9 looks"
    )


def test_a_breach_is_read_as_one_change_and_a_bar_that_fills() -> None:
    log, verdict = read_log(traffic(lambda minute: 1.6 if minute < 95 else 2.1))
    assert verdict is not None
    assert log.changes() == [
        f"WARNING {P95} is bad at 13:35 UTC: p95 was 31 % above {BASELINE}"
        " (2.10 s against 1.60 s, n = 194 and 193); ▱▱▱▱▱▱▱▱▱▱ 0 min of 30 min burnt"
    ]
    assert f"{P95} bad ▰▰▰▰▰▰▰▰▱▱ 25 min of 30 min burnt, 10 looks" in log.status()[-1]


def test_a_source_that_goes_and_comes_back_is_two_lines_and_said_in_every_status_line() -> None:
    log, _ = read_log(traffic(lambda _: 1.6), down=(60, 120), last=180)
    assert log.changes() == [
        "WARNING looks are unknown: connection refused",
        "the metric source answers again",
    ]
    dark = [line for line in log.status() if "nothing read since 13:00 UTC: connection refused" in line]
    assert len(dark) == 6
    assert "70 looks" in log.status()[-6]


def test_a_budget_that_flaps_is_summed_up() -> None:
    log, _ = read_log(traffic(lambda minute: 2.1 if minute % 2 else 1.6), last=120)
    hours = 2
    assert len(log.status()) == 1 + hours * 6
    # Six of ten changes have their line, and one says that there are more.
    assert len(log.changes()) <= 7 * (1 + hours * 6)
    assert f"4 more changes, of all: {P95} 10" in log.status()[-1]
    assert "after 1 min good" in log.changes()[1]


def test_what_is_unknown_says_why() -> None:
    gone = [sample for sample in traffic(lambda _: 1.6) if sample.version != RELEASE or sample.time < at(30)]
    log, _ = read_log(gone, last=60)
    assert log.changes() == [
        f"{P95} is unknown at 12:30 UTC: no p95 of {RELEASE}; ▱▱▱▱▱▱▱▱▱▱ 0 min of 30 min burnt",
        f"{SUCCESS} is unknown at 12:30 UTC: no task_success of {RELEASE}; ▱▱▱▱▱▱▱▱▱▱ 0 min of 20 min burnt",
    ]
    assert "10 looks, 10 unknown" in log.status()[-1]


def test_the_end_of_a_suspension_is_said_that_held_from_before_the_first_look() -> None:
    hold = Suspension(budget="all", since=at(-60), until=at(5), by="alice", reason="load test")
    log, _ = read_log(traffic(lambda _: 1.6), first=0, last=120, suspended=hold)
    assert log.changes() == [
        f"{budget} is no longer suspended from 12:06 UTC on" for budget in (P95, SUCCESS)
    ]


def test_a_suspension_is_a_line_at_its_beginning_and_one_at_its_end() -> None:
    hold = Suspension(budget=P95, since=at(30), until=at(90), by="alice", reason="load test")
    log, _ = read_log(traffic(lambda minute: 2.1 if 30 < minute < 80 else 1.6), last=120, suspended=hold)
    assert log.changes() == [
        f"WARNING {P95} is suspended from 12:31 UTC on: {hold}",
        f"{P95} is no longer suspended from 13:31 UTC on",
    ]
    assert f"{P95} suspended" in log.status()[6]


def test_a_watch_that_replays_half_a_day_says_where_it_stands_and_no_history() -> None:
    log, _ = read_log(traffic(lambda minute: 2.1 if minute % 50 < 5 else 1.6), first=720, last=720)
    assert len(log.lines) == 1
    assert "720 looks" in log.lines[0]


def test_a_doubt_is_logged_once_also_where_it_takes_the_place_of_another_one() -> None:
    log = Lines()
    plan = WatchPlan(spec=spec(), window_start=START, window_end=at(DAY))
    task_log = TaskLog(plan, log, lambda: START)
    for doubts in [("0.1 of the requests",), ("0.2 of the requests",), ("p95 is equal",), ()]:
        task_log._log_doubts(doubts)
    assert log.lines == [
        "WARNING 0.1 of the requests",
        "WARNING p95 is equal",
        "the comparison is no longer doubtful",
    ]
