from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import LedgerError
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
from tests.watch.test_watcher import Backend, Night

pytestmark = pytest.mark.database

LOG = logging.getLogger(__name__)
NIGHT = 60 * 24


class Asked:
    """Reads a ledger, and counts how often; ``away`` makes it fail, ``hold`` makes it wait."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.times = 0
        self.away = False
        self.hold: threading.Event | None = None

    def __call__(self, after: datetime) -> Sequence[LoggedSuspension]:
        self.times += 1
        if self.hold is not None:
            self.hold.wait(30)
        if self.away:
            raise LedgerError("the ledger is away")
        return self.ledger.suspensions(after=after)


class SuspendedNight(Night):
    """A night under a real ledger; somebody acts on it between the looks."""

    def __init__(self, ledger: Ledger, **plan: object) -> None:
        spec = rollout(watch=Watch(settle=2 * MINUTE))
        super().__init__(spec, Backend(both([130.0] * NIGHT)), **plan)
        self.asked = Asked(ledger)
        self.suspended = SuspensionCache(self.asked, now=lambda: self.now)

    def watcher(self) -> Watcher:
        async def open_source(_spec: RolloutSpec) -> Source:
            return self.backend

        return Watcher(self.plan, open_source, log=LOG, suspensions=self.suspended, now=lambda: self.now)

    def suspend(self, since: int, until: int, scope: Scope | None = None) -> LoggedSuspension:
        hold = Suspension(budget="latency", since=at(since), until=at(until), by="alice", reason="load test")
        return self.asked.ledger.suspend(scope or Scope(name="model-v42"), hold)


async def the_breach(
    night: SuspendedNight, acts: dict[int, object], kill_at: int | None = None
) -> Evaluation:
    watcher = night.watcher()
    for minute in range(1, NIGHT):
        night.now = at(minute)
        act = acts.get(minute)
        if callable(act):
            act()
        if minute == kill_at:
            watcher = night.watcher()
        verdict = await watcher.look()
        if verdict is not None:
            return verdict
    raise AssertionError("no breach in the whole night")


async def first_breach(night: SuspendedNight, acts: dict[int, object]) -> datetime:
    return (await the_breach(night, acts)).breaches[0].breached_at


@pytest.mark.parametrize("kill_at", [None, 30, 65])
@pytest.mark.parametrize("minute", [27, 28, 29])
async def test_a_suspension_holds_from_the_next_look_on_and_a_restart_agrees(
    ledger: Ledger, kill_at: int | None, minute: int
) -> None:
    night = SuspendedNight(ledger)
    verdict = await the_breach(night, {minute: lambda: night.suspend(minute, 60)}, kill_at)
    assert verdict.breaches[0].breached_at == at(91)
    # The looks up to two minutes earlier were folded already; the next one is the first under it.
    assert verdict.budgets[0].suspended_looks == 60 - (minute - 2)


async def test_one_that_is_ended_early_holds_no_longer(ledger: Ledger) -> None:
    night = SuspendedNight(ledger)
    hold = night.suspend(0, 600)
    acts = {40: lambda: ledger.end_suspension(hold.id, "bob", "done", at(40))}
    assert await first_breach(night, acts) == at(71)


async def test_it_expires_by_itself_while_the_ledger_is_away_and_the_watch_goes_on(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    night = SuspendedNight(ledger)
    night.suspend(10, 60)
    acts = {20: lambda: setattr(night.asked, "away", True), 80: lambda: setattr(night.asked, "away", False)}
    assert await first_breach(night, acts) == at(91)
    assert sum("as last known" in record.message for record in caplog.records) == 1


async def test_a_thousand_watches_share_one_question_a_poll(ledger: Ledger) -> None:
    night = SuspendedNight(ledger)
    mine = RolloutKey("rollout", "7")
    night.suspend(1, 60, Scope(dag_id="rollout", run_id="7"))
    plans = [
        night.plan.model_copy(
            update={
                "rollout": RolloutKey("rollout", str(n)),
                "window_start": START - n * timedelta(seconds=30),
            }
        )
        for n in range(1000)
    ]
    for minute in range(2, 12):
        night.now = at(minute)
        answers = await asyncio.gather(*(night.suspended(plan, at(minute), LOG) for plan in plans))
        assert [plan.rollout for plan, told in zip(plans, answers, strict=True) if told] == [mine]
    assert night.asked.times == 10


async def test_a_ledger_that_hangs_does_not_hold_the_looks(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspended, "PATIENCE", timedelta(milliseconds=50))
    night = SuspendedNight(ledger)
    night.now = at(1)
    night.asked.hold = threading.Event()
    try:
        plan: WatchPlan = night.plan
        assert await night.suspended(plan, at(1), LOG) == ()
        assert await night.suspended(plan, at(1), LOG) == ()
        assert night.asked.times == 1
    finally:
        night.asked.hold.set()
