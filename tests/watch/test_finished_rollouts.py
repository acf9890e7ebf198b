"""A watch whose rollout was decided without it has nothing left to watch for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.source import RecordedSource
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.finished_rollouts import READ_INTERVAL, FinishedRollouts
from rollback_budget.watch.watch_plan import WatchPlan
from tests.engine.builders import START, at, rollout

pytestmark = [pytest.mark.airflow, pytest.mark.database]


def plan_of(run: str, window_start: datetime = START) -> WatchPlan:
    spec = rollout()
    return WatchPlan(
        spec=spec,
        window_start=window_start,
        window_end=window_start + spec.window,
        rollout=RolloutKey("rollout", run),
    )


def decide(ledger: Ledger, plan: WatchPlan, when: datetime) -> None:
    assert plan.rollout is not None
    ledger.rollouts.open(plan.rollout, plan.spec, plan.window_start)
    ledger.final_decisions.take(plan.rollout, FinalDecision.ROLLED_BACK, "the rule", "worse", when)


class CountingReader:
    """Reads a ledger, and remembers from when on; ``unavailable`` makes it fail."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.since: list[datetime] = []
        self.unavailable = False
        self.now = START
        self.ended = FinishedRollouts(self, now=lambda: self.now)

    def __call__(self, after: datetime) -> Collection[RolloutKey]:
        self.since.append(after)
        if self.unavailable:
            raise LedgerUnavailableError("the ledger is unavailable")
        return self.ledger.rollouts.ended(after)

    async def know(self, plan: WatchPlan) -> bool:
        """Look, let the answer come, and look again."""
        self.ended(plan)
        if self.ended._query is not None:
            await self.ended._query
        return self.ended(plan)


async def test_an_end_is_known_at_the_next_question_and_only_for_the_rollout_that_ended(
    ledger: Ledger,
) -> None:
    requests, mine, other = CountingReader(ledger), plan_of("1"), plan_of("2")
    assert not await requests.know(mine)
    decide(ledger, mine, at(5))
    requests.now = at(6)
    assert await requests.know(mine)
    assert not await requests.know(other)


async def test_a_thousand_watches_share_one_question(ledger: Ledger) -> None:
    requests = CountingReader(ledger)
    for number in range(1000):
        await requests.know(plan_of(str(number), START - timedelta(seconds=number)))
    assert len(requests.since) == 1
    requests.now = START + READ_INTERVAL
    await requests.know(plan_of("1"))
    # An older window than the first question knew of was watched meanwhile.
    assert requests.since[1:] == [START - timedelta(seconds=999)]


async def test_what_ended_while_the_ledger_was_unavailable_is_known_when_it_is_back(ledger: Ledger) -> None:
    requests, mine = CountingReader(ledger), plan_of("1")
    assert not await requests.know(mine)
    requests.unavailable = True
    decide(ledger, mine, at(5))
    for minute in range(5, 60):
        requests.now = at(minute)
        assert not await requests.know(mine)
    requests.unavailable, requests.now = False, at(61)
    assert await requests.know(mine)


def test_the_trigger_of_such_a_watch_ends_without_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    series = tmp_path / "series.csv"
    series.write_text("time,metric,version,value,n\n")
    ledger, now = Ledger(url), utc_now()
    ledger.migrate()
    spec = rollout(source=RecordedSource(path=str(series)))
    plan = plan_of("1", now).model_copy(update={"spec": spec, "window_end": now + spec.window})
    decide(ledger, plan, now + timedelta(seconds=1))
    monkeypatch.setattr("rollback_budget.watch.watcher.Watcher.seconds_to_next_look", lambda _self: 0.01)
    trigger = RollbackBudgetTrigger(plan=plan.model_dump_json(), deferred_at=START.isoformat())

    async def first_event() -> object:
        async with asyncio.timeout(30):
            return [event.payload async for event in trigger.run()]

    assert asyncio.run(first_event()) == [{"evaluation": None}]
