"""Looks of real watches in real ledgers, on a virtual clock; the writer has a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.evaluation import Evaluation, Status, VerdictKind
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import Source
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.rollouts import race
from tests.watch.test_watcher import Backend

pytestmark = pytest.mark.database

LOG = logging.getLogger(__name__)
KEY = RolloutKey("rollout_model_v42", "manual__1")
SOON = timedelta(milliseconds=20)
LONG = timedelta(seconds=30)


def two_budgets() -> RolloutSpec:
    return rollout(
        budget(),
        budget(
            "task_success",
            Comparison.DELTA_PP,
            -2.0,
            area="quality",
            minutes=20,
            worse=Worse.LOWER,
            method=Method.SEQUENTIAL,
        ),
        watch=Watch(settle=timedelta(0)),
        metrics={"task_success": Metric(kind=MetricKind.PROPORTION)},
    )


def samples(minutes: int, onset: int) -> list[Sample]:
    """p95 is a third higher from minute ``onset`` on; task success is unknown in every tenth one."""
    p95 = [1.6 if minute < onset else 2.1 for minute in range(1, minutes + 1)]
    success = [float("nan") if minute % 10 == 0 else 0.9 for minute in range(1, minutes + 1)]
    return [
        *arm(RELEASE, p95, n=200),
        *arm(BASELINE, [1.6] * minutes, n=200),
        *arm(RELEASE, success, n=200, metric="task_success"),
        *arm(BASELINE, success, n=200, metric="task_success"),
    ]


class Shift:
    """Watches one rollout minute by minute, with a writer that can die with the watch."""

    def __init__(self, ledger: Ledger, onset: int = 10_000) -> None:
        self.ledger = ledger
        self.now = START
        self.spec = two_budgets()
        self.backend = Backend(samples(600, onset))
        self.plan = WatchPlan(
            spec=self.spec, window_start=START, window_end=START + self.spec.window, rollout=KEY
        )
        self.start()

    def start(self, **options: int) -> None:
        self.writer = LookWriter(
            lambda: self.ledger, log=LOG, gather=SOON, pause=SOON, now=lambda: self.now, **options
        )
        self.watcher = self.new_watcher()

    def new_watcher(self) -> Watcher:
        async def open_source(_spec: RolloutSpec) -> Source:
            return self.backend

        return Watcher(self.plan, open_source, log=LOG, looks=self.writer, now=lambda: self.now)

    async def watch(self, first: int, last: int) -> Evaluation | None:
        for minute in range(first, last + 1):
            self.now = at(minute)
            verdict = await self.watcher.look()
            if verdict is not None:
                return verdict
        return None

    def flushed(self) -> bool:
        return self.writer.flush(LONG)


def opened(ledger: Ledger) -> Shift:
    shift = Shift(ledger)
    ledger.open_rollout(KEY, shift.spec, START)
    return shift


async def test_every_look_is_in_the_ledger_once_with_what_it_found(ledger: Ledger) -> None:
    shift = opened(ledger)
    shift.backend.samples = samples(600, onset=31)
    verdict = await shift.watch(1, 600)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH
    assert shift.flushed()

    looks = ledger.looks(KEY, budget="latency.p95_delta_pct")
    assert [look.time for look in looks] == [at(minute) for minute in range(1, 62)]
    assert [look.status for look in looks[29:31]] == [Status.GOOD, Status.BAD]
    last = looks[-1]
    assert (last.burn, last.delta, last.release_value, last.baseline_n) == (30 * MINUTE, 31.25, 2.1, 200)
    success = ledger.looks(KEY, budget="quality.task_success_delta_pp", since=at(9))
    assert (success[0].time, success[0].status, success[0].delta) == (at(10), Status.UNKNOWN, None)
    assert 0 < (success[-1].p_value or 0) <= 1
    assert len(ledger.looks(KEY)) == 2 * 61


async def test_a_watch_that_starts_again_writes_only_what_is_missing_and_nothing_twice(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = opened(ledger)
    await shift.watch(1, 100)
    assert shift.flushed()
    before = ledger.looks(KEY)
    written: list[int] = []
    record = Ledger.record_looks
    monkeypatch.setattr(
        Ledger, "record_looks", lambda self, batch: written.append(len(batch)) or record(self, batch)
    )
    shift.start()
    # Twenty minutes passed without a watch; the replay tells their looks, one by one.
    await shift.watch(120, 121)
    assert shift.flushed()
    looks = ledger.looks(KEY)
    assert looks[: len(before)] == before
    assert [look.time for look in looks[::2]] == [at(minute) for minute in range(1, 122)]
    assert sum(written) == 21

    # Two triggerers that both believe the watch is theirs write the same looks, and both are right.
    race(2, lambda _: asyncio.run(another_watch(ledger)))
    assert ledger.looks(KEY) == looks


async def another_watch(ledger: Ledger) -> None:
    shift = Shift(ledger)
    shift.writer.looks_until = nothing_known  # type: ignore[method-assign]
    await shift.watch(121, 121)
    assert shift.flushed()


async def nothing_known(plan: WatchPlan) -> object:
    return plan.window_start


async def test_looks_wait_for_a_ledger_that_is_away_and_the_oldest_make_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    shift = opened(ledger)
    shift.start(most_kept=50)
    await shift.watch(1, 10)
    assert shift.flushed()
    file.rename(tmp_path / "away.db")
    shift.backend.samples = samples(600, onset=41)
    with caplog.at_level("INFO"):
        verdict = await shift.watch(11, 600)
        assert verdict is not None
        assert verdict.breaches[0].breached_at == at(71)
        assert not shift.flushed()
        (tmp_path / "away.db").rename(file)
        assert shift.flushed()
    assert [look.time for look in ledger.looks(KEY, verdict.budgets[0].budget)] == [
        at(minute) for minute in (*range(1, 11), *range(22, 72))
    ]
    said = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert len([line for line in said if "11 of the oldest were dropped" in line]) == 1
    assert len([line for line in said if "looks wait for the ledger" in line]) == 1


async def test_a_ledger_that_hangs_holds_no_look_longer_than_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    shift = opened(ledger)
    gate = threading.Event()

    def hang(*_: object) -> int:
        gate.wait(60)
        return 0

    monkeypatch.setattr(ledger, "record_looks", hang)
    monkeypatch.setattr(ledger, "looks_until", lambda keys: hang(keys) or {})
    monkeypatch.setattr("rollback_budget.watch.look_writer.PATIENCE", SOON)
    async with asyncio.timeout(20):
        assert await shift.watch(1, 200) is None
    assert not shift.writer.flush(SOON)
    gate.set()


async def test_five_hundred_watches_ask_the_ledger_once_what_it_has(ledger: Ledger) -> None:
    shift = opened(ledger)
    asked: list[int] = []
    read = ledger.looks_until

    class Counting:
        record_looks = staticmethod(ledger.record_looks)

        @staticmethod
        def looks_until(keys: set[RolloutKey]) -> object:
            asked.append(len(keys))
            return read(keys)

    writer = LookWriter(Counting, log=LOG)
    plans = [
        shift.plan.model_copy(update={"rollout": RolloutKey(KEY.dag_id, f"run {number}")})
        for number in range(500)
    ]
    found = await asyncio.gather(*(writer.looks_until(plan) for plan in plans))
    assert set(found) == {START}
    assert asked == [500]


async def test_pruning_takes_old_looks_and_leaves_the_evidence(ledger: Ledger) -> None:
    shift = opened(ledger)
    shift.backend.samples = samples(600, onset=31)
    verdict = await shift.watch(1, 600)
    assert verdict is not None
    assert shift.flushed()
    ledger.record_evaluation(KEY, 1, "watch", verdict, at(61))
    ledger.log_breaches(KEY, verdict.breaches, at(61))
    assert ledger.prune_looks(at(40)) == 39
    assert ledger.looks(KEY)[0].time == at(40)
    assert ledger.prune_looks(at(700)) == 22
    assert ledger.looks(KEY) == []
    assert ledger.evaluations(KEY)[0].evaluation == verdict
    assert len(ledger.breaches(KEY)[0].breach.samples) == 31
