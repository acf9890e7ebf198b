from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedSuspension, Scope
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import Source
from rollback_budget.watch import suspension_cache as suspended
from rollback_budget.watch.suspension_cache import SuspensionCache
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import MINUTE, START, at, both, rollout
from tests.support.simulated_watch import Backend, SimulatedWatch

pytestmark = pytest.mark.database

LOG = logging.getLogger(__name__)
DAY_MINUTES = 60 * 24


class CountingReader:
    """Reads a ledger, and counts how often; ``unavailable`` makes it fail, ``hold`` makes it wait."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.times = 0
        self.unavailable = False
        self.hold: threading.Event | None = None

    def __call__(self, after: datetime) -> Sequence[LoggedSuspension]:
        self.times += 1
        if self.hold is not None:
            self.hold.wait(30)
        if self.unavailable:
            raise LedgerUnavailableError("the ledger is unavailable")
        return self.ledger.suspensions.ending_after(after=after)


class SuspendedWatch(SimulatedWatch):
    """A night under a real ledger; a user acts on it between the looks."""

    def __init__(self, ledger: Ledger, **plan: object) -> None:
        spec = rollout(watch=Watch(settle=2 * MINUTE))
        super().__init__(spec, Backend(both([130.0] * DAY_MINUTES)), **plan)
        self.requests = CountingReader(ledger)
        self.suspended = SuspensionCache(self.requests, now=lambda: self.now)

    def watcher(self) -> Watcher:
        async def open_source(_spec: RolloutSpec) -> Source:
            return self.backend

        return Watcher(self.plan, open_source, log=LOG, suspensions=self.suspended, now=lambda: self.now)

    def suspend(self, since: int, until: int, scope: Scope | None = None) -> LoggedSuspension:
        hold = Suspension(budget="latency", since=at(since), until=at(until), by="alice", reason="load test")
        return self.requests.ledger.suspensions.add(scope or Scope(name="model-v42"), hold)


async def watch_to_breach(
    simulation: SuspendedWatch, acts: dict[int, object], kill_at: int | None = None
) -> Evaluation:
    watcher = simulation.watcher()
    for minute in range(1, DAY_MINUTES):
        simulation.now = at(minute)
        act = acts.get(minute)
        if callable(act):
            act()
        if minute == kill_at:
            watcher = simulation.watcher()
        verdict = await watcher.look()
        if verdict is not None:
            return verdict
    raise AssertionError("no breach in the whole night")


async def first_breach(simulation: SuspendedWatch, acts: dict[int, object]) -> datetime:
    return (await watch_to_breach(simulation, acts)).breaches[0].breached_at


@pytest.mark.parametrize("kill_at", [None, 30, 65])
@pytest.mark.parametrize("minute", [27, 28, 29])
async def test_a_suspension_holds_from_the_next_look_on_and_a_restart_agrees(
    ledger: Ledger, kill_at: int | None, minute: int
) -> None:
    simulation = SuspendedWatch(ledger)
    verdict = await watch_to_breach(simulation, {minute: lambda: simulation.suspend(minute, 60)}, kill_at)
    assert verdict.breaches[0].breached_at == at(91)
    # The looks up to two minutes earlier were folded already; the next one is the first under it.
    assert verdict.budgets[0].suspended_looks == 60 - (minute - 2)


async def test_one_that_is_ended_early_holds_no_longer(ledger: Ledger) -> None:
    simulation = SuspendedWatch(ledger)
    hold = simulation.suspend(0, 600)
    acts = {40: lambda: ledger.suspensions.end(hold.id, "bob", "done", at(40))}
    assert await first_breach(simulation, acts) == at(71)


async def test_it_expires_by_itself_while_the_ledger_is_unavailable_and_the_watch_goes_on(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    simulation = SuspendedWatch(ledger)
    simulation.suspend(10, 60)
    acts = {
        20: lambda: setattr(simulation.requests, "unavailable", True),
        80: lambda: setattr(simulation.requests, "unavailable", False),
    }
    assert await first_breach(simulation, acts) == at(91)
    assert sum("as last read" in record.message for record in caplog.records) == 1


async def test_a_thousand_watches_share_one_question_a_poll(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What counts is how often it is asked, not how soon a busy machine answers.
    monkeypatch.setattr(suspended, "READ_TIMEOUT", timedelta(minutes=1))
    simulation = SuspendedWatch(ledger)
    mine = RolloutKey("rollout", "7")
    simulation.suspend(1, 60, Scope(dag_id="rollout", run_id="7"))
    plans = [
        simulation.plan.model_copy(
            update={
                "rollout": RolloutKey("rollout", str(n)),
                "window_start": START - n * timedelta(seconds=30),
            }
        )
        for n in range(1000)
    ]
    for minute in range(2, 12):
        simulation.now = at(minute)
        answers = await asyncio.gather(*(simulation.suspended(plan, at(minute), LOG) for plan in plans))
        assert [plan.rollout for plan, logged in zip(plans, answers, strict=True) if logged] == [mine]
    assert simulation.requests.times == 10


async def test_a_ledger_that_hangs_does_not_hold_the_looks(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspended, "READ_TIMEOUT", timedelta(milliseconds=50))
    simulation = SuspendedWatch(ledger)
    simulation.now = at(1)
    simulation.requests.hold = threading.Event()
    try:
        plan: WatchPlan = simulation.plan
        assert await simulation.suspended(plan, at(1), LOG) == ()
        assert await simulation.suspended(plan, at(1), LOG) == ()
        assert simulation.requests.times == 1
    finally:
        simulation.requests.hold.set()
