"""A ledger that refuses is no outage: nothing is kept for another try, and the watch goes on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.ledger.looks import LookRecord
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.watch.finished_rollouts import FinishedRollouts
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.suspension_cache import SuspensionCache
from rollback_budget.watch.watch_plan import WatchPlan
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = pytest.mark.pure

LOG = logging.getLogger(__name__)
SOON = timedelta(seconds=0.05)


def plan() -> WatchPlan:
    spec = make_spec()
    return WatchPlan(spec=spec, window_start=NOON, window_end=NOON + spec.window, rollout=KEY)


def refuse(*_: object) -> Any:
    raise LedgerRuleError("no")


class Looks:
    """Looks in memory; the first time that some are added they are refused."""

    def __init__(self) -> None:
        self.tries = 0
        self.times: list[datetime] = []

    def add(self, records: Sequence[LookRecord]) -> int:
        self.tries += 1
        if self.tries == 1:
            raise LedgerRuleError("no")
        self.times += [record.time for record in records]
        return 0

    def newest_times(self, _keys: Collection[RolloutKey]) -> dict[RolloutKey, datetime]:
        raise LedgerRuleError("no")


async def test_refused_looks_are_dropped_and_the_next_ones_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks, nothing_seen = Looks(), list[BudgetSnapshot]()
    writer = LookWriter(lambda: looks, log=LOG, batch_wait=SOON, retry_after=timedelta(minutes=10))
    for minute in (1, 2):
        writer.record(plan(), NOON + timedelta(minutes=minute), nothing_seen)
        assert writer.flush(timedelta(seconds=30))
    assert (looks.tries, looks.times) == (2, [NOON + timedelta(minutes=2)])
    assert "1 look could not be written" in caplog.text


async def test_a_watch_begins_when_the_ledger_refuses_to_say_which_looks_it_has() -> None:
    writer = LookWriter(Looks, log=LOG, now=lambda: NOON + timedelta(hours=2))
    assert await writer.looks_until(plan()) == NOON + timedelta(hours=1, minutes=30)


async def test_suspensions_stay_as_last_read_and_the_refusal_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = SuspensionCache(refuse, now=lambda: NOON)
    assert await cache(plan(), NOON, LOG) == ()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_watch_goes_on_when_the_ledger_refuses_to_say_which_rollouts_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = FinishedRollouts(refuse, now=lambda: NOON)
    assert not ended(plan())
    assert ended._query is not None
    await ended._query
    assert not ended(plan())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
