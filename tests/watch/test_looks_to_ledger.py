"""Looks of real watches in real ledgers, on a virtual clock; the writer has a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.evaluation import Evaluation, Status, VerdictKind
from rollback_budget.exceptions import SourceError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import Looks
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison, Method, Worse
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.rollouts import race
from tests.support.simulated_watch import Backend

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
        watch=Watch(settle=timedelta(0), stuck_after=timedelta(days=30)),
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


class RecordedWatch:
    """Watches one rollout minute by minute, with a writer that can die with the watch."""

    def __init__(self, ledger: Ledger, onset: int = 10_000) -> None:
        self.ledger = ledger
        self.now = START
        self.spec = two_budgets()
        self.backend: Backend = Backend(samples(600, onset))
        self.plan = WatchPlan(
            spec=self.spec, window_start=START, window_end=START + self.spec.window, rollout=KEY
        )
        self.start()

    def start(self, **options: int) -> None:
        self.writer = LookWriter(
            lambda: self.ledger.looks,
            log=LOG,
            batch_wait=SOON,
            retry_after=SOON,
            now=lambda: self.now,
            **options,
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


def start_watch(ledger: Ledger) -> RecordedWatch:
    simulation = RecordedWatch(ledger)
    ledger.rollouts.open(KEY, simulation.spec, START)
    return simulation


async def test_every_look_is_in_the_ledger_once_with_what_it_found(ledger: Ledger) -> None:
    simulation = start_watch(ledger)
    simulation.backend.samples = samples(600, onset=31)
    verdict = await simulation.watch(1, 600)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH
    assert simulation.flushed()

    looks = ledger.looks.of(KEY, budget="latency.p95_delta_pct")
    assert [look.time for look in looks] == [at(minute) for minute in range(1, 62)]
    assert [look.status for look in looks[29:31]] == [Status.GOOD, Status.BAD]
    last = looks[-1]
    assert (last.burn, last.delta, last.release_value, last.baseline_n) == (30 * MINUTE, 31.25, 2.1, 200)
    success = ledger.looks.of(KEY, budget="quality.task_success_delta_pp", since=at(9))
    assert (success[0].time, success[0].status, success[0].delta) == (at(10), Status.UNKNOWN, None)
    assert 0 < (success[-1].p_value or 0) <= 1
    assert len(ledger.looks.of(KEY)) == 2 * 61


async def test_a_watch_that_starts_again_writes_only_what_is_missing_and_nothing_twice(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = start_watch(ledger)
    await simulation.watch(1, 100)
    assert simulation.flushed()
    before = ledger.looks.of(KEY)
    written: list[int] = []
    record = Looks.add
    monkeypatch.setattr(Looks, "add", lambda self, batch: written.append(len(batch)) or record(self, batch))
    simulation.start()
    # Twenty minutes passed without a watch; the replay gives their looks, one by one.
    await simulation.watch(120, 121)
    assert simulation.flushed()
    looks = ledger.looks.of(KEY)
    assert looks[: len(before)] == before
    assert [look.time for look in looks[::2]] == [at(minute) for minute in range(1, 122)]
    assert sum(written) == 21

    # Two triggerers that both believe the watch is theirs write the same looks, and both are right.
    race(2, lambda _: asyncio.run(another_watch(ledger)))
    assert ledger.looks.of(KEY) == looks


async def another_watch(ledger: Ledger) -> None:
    simulation = RecordedWatch(ledger)
    simulation.writer.looks_until = nothing_known  # type: ignore[method-assign]
    await simulation.watch(121, 121)
    assert simulation.flushed()


async def nothing_known(plan: WatchPlan) -> object:
    return plan.window_start


async def test_looks_wait_for_a_ledger_that_is_unavailable_and_the_oldest_make_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    simulation = start_watch(ledger)
    simulation.start(max_queued=50)
    await simulation.watch(1, 10)
    assert simulation.flushed()
    file.rename(tmp_path / "moved.db")
    simulation.backend.samples = samples(600, onset=41)
    with caplog.at_level("INFO"):
        verdict = await simulation.watch(11, 600)
        assert verdict is not None
        assert verdict.breaches[0].breached_at == at(71)
        assert not simulation.flushed()
        (tmp_path / "moved.db").rename(file)
        assert simulation.flushed()
    assert [look.time for look in ledger.looks.of(KEY, verdict.budgets[0].budget)] == [
        at(minute) for minute in (*range(1, 11), *range(22, 72))
    ]
    said = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert len([line for line in said if "11 of the oldest were dropped" in line]) == 1
    assert len([line for line in said if "the ledger is unavailable" in line]) == 1


async def test_a_ledger_that_hangs_holds_no_look_longer_than_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    simulation = start_watch(ledger)
    gate = threading.Event()

    def hang(*_: object) -> int:
        gate.wait(60)
        return 0

    monkeypatch.setattr(ledger.looks, "add", hang)
    monkeypatch.setattr(ledger.looks, "newest_times", lambda keys: hang(keys) or {})
    monkeypatch.setattr("rollback_budget.watch.look_writer.QUERY_TIMEOUT", SOON)
    async with asyncio.timeout(20):
        assert await simulation.watch(1, 200) is None
    assert not simulation.writer.flush(SOON)
    gate.set()


async def test_five_hundred_watches_ask_the_ledger_once_what_it_has(ledger: Ledger) -> None:
    simulation = start_watch(ledger)
    requests: list[int] = []
    read = ledger.looks.newest_times

    class Counting:
        add = staticmethod(ledger.looks.add)

        @staticmethod
        def newest_times(keys: set[RolloutKey]) -> object:
            requests.append(len(keys))
            return read(keys)

    writer = LookWriter(Counting, log=LOG)
    plans = [
        simulation.plan.model_copy(update={"rollout": RolloutKey(KEY.dag_id, f"run {number}")})
        for number in range(500)
    ]
    found = await asyncio.gather(*(writer.looks_until(plan) for plan in plans))
    assert set(found) == {START}
    assert requests == [500]


async def test_watches_that_share_the_ledgers_answer_let_others_run_between_them(ledger: Ledger) -> None:
    simulation = start_watch(ledger)
    writer = LookWriter(lambda: ledger.looks, log=LOG)
    turns, resumed_in = 0, []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def begin() -> None:
        await writer.looks_until(simulation.plan)
        resumed_in.append(turns)

    others = asyncio.create_task(count_turns())
    await asyncio.gather(*(begin() for _ in range(50)))
    others.cancel()
    assert len(set(resumed_in)) == 50


async def test_pruning_takes_old_looks_and_leaves_the_evidence(ledger: Ledger) -> None:
    simulation = start_watch(ledger)
    simulation.backend.samples = samples(600, onset=31)
    verdict = await simulation.watch(1, 600)
    assert verdict is not None
    assert simulation.flushed()
    ledger.evaluations.add(KEY, 1, "watch", verdict, at(61))
    ledger.breaches.log(KEY, verdict.breaches, at(61))
    assert ledger.looks.prune(at(40)) == 39
    assert ledger.looks.of(KEY)[0].time == at(40)
    assert ledger.looks.prune(at(700)) == 22
    assert ledger.looks.of(KEY) == []
    assert ledger.evaluations.of(KEY)[0].evaluation == verdict
    assert len(ledger.breaches.of(KEY)[0].breach.samples) == 31


def three_paces() -> RolloutSpec:
    """A latency by the minute beside a score every half hour, an hour late, and one by arrival."""
    return rollout(
        budget(),
        budget("score", threshold=20.0, minutes=60, area="quality"),
        budget("feedback", threshold=20.0, minutes=60, area="quality"),
        watch=Watch(settle=timedelta(0), stuck_after=timedelta(days=30)),
        metrics={
            "score": Metric(every=30 * MINUTE, lag=61 * MINUTE),
            "feedback": Metric(every=20 * MINUTE, lag=40 * MINUTE, bucket_by=BucketBy.ARRIVAL),
        },
    )


def paced_samples() -> list[Sample]:
    found = arm(RELEASE, [100.0] * 600) + arm(BASELINE, [100.0] * 600)
    for metric, every in (("score", 30), ("feedback", 20)):
        for minute in range(every, 601, every):
            value = 130.0 if minute > 240 and metric == "score" else 100.0
            found += [Sample(at(minute), metric, RELEASE, value), Sample(at(minute), metric, BASELINE, 100.0)]
    return found


@pytest.mark.parametrize("restart_at", [None, 61, 95, 151, 300])
async def test_looks_of_every_pace_are_in_the_ledger_once_and_at_their_own_times(
    ledger: Ledger, restart_at: int | None
) -> None:
    simulation = RecordedWatch(ledger)
    simulation.spec, simulation.backend = three_paces(), Backend(paced_samples())
    simulation.plan = simulation.plan.model_copy(
        update={"spec": simulation.spec, "window_end": START + simulation.spec.window}
    )
    simulation.start()
    ledger.rollouts.open(KEY, simulation.spec, START)
    if restart_at is not None:
        await simulation.watch(1, restart_at)
        assert simulation.flushed()
        simulation.start()
    verdict = await simulation.watch(restart_at or 1, 600)
    assert verdict is not None
    assert [one.breached_at for one in verdict.breaches] == [at(330)]
    assert simulation.flushed()
    times = {
        name: [look.time for look in ledger.looks.of(KEY, budget=f"{name}_delta_pct")]
        for name in ("latency.p95", "quality.score", "quality.feedback")
    }
    # Decided at minute 391, when the score of minute 330 had come.
    assert times["latency.p95"] == [at(minute) for minute in range(1, 392)]
    assert times["quality.score"] == [at(minute) for minute in range(30, 331, 30)]
    assert times["quality.feedback"] == [at(minute) for minute in range(60, 391, 20)]
    newest = {look.budget: look.time for look in ledger.looks.newest(KEY)}
    assert newest["quality.score_delta_pct"] == at(330)


class LateScore(Backend):
    """Does not answer for the score in some minutes of the watch."""

    def __init__(self, samples: list[Sample], silent: range, simulation: RecordedWatch) -> None:
        super().__init__(samples)
        self.silent = silent
        self.simulation = simulation

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        minute = (self.simulation.now - START) // MINUTE
        if request.series == ("score",) and minute in self.silent:
            raise SourceError("the table of scores is locked", transient=True)
        return await super().fetch(request)


@pytest.mark.parametrize("restart_at", [None, 61, 62])
async def test_a_look_that_was_read_behind_later_ones_is_added_to_the_look_of_its_time(
    ledger: Ledger, restart_at: int | None
) -> None:
    simulation = RecordedWatch(ledger)
    simulation.spec = three_paces().model_copy(update={"metrics": {"score": Metric(every=30 * MINUTE)}})
    simulation.backend = LateScore(paced_samples(), range(60, 63), simulation)
    simulation.plan = simulation.plan.model_copy(
        update={"spec": simulation.spec, "window_end": START + simulation.spec.window}
    )
    simulation.start()
    ledger.rollouts.open(KEY, simulation.spec, START)
    await simulation.watch(1, restart_at or 100)
    assert simulation.flushed()
    if restart_at is not None:
        simulation.start()
        await simulation.watch(restart_at, 100)
    assert simulation.flushed()
    times = [look.time for look in ledger.looks.of(KEY, budget="quality.score_delta_pct")]
    assert times == [at(30), at(60), at(90)]
    assert len(ledger.looks.of(KEY, budget="latency.p95_delta_pct")) == 100
