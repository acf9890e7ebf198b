"""Which suspensions hold, for every watch of this process, from few questions to the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from rollback_budget.clock import Log, utc_now
from rollback_budget.exceptions import LedgerError

if TYPE_CHECKING:
    from rollback_budget.engine.suspension import Suspension
    from rollback_budget.ledger.views import LoggedSuspension
    from rollback_budget.watch.watch_plan import WatchPlan

#: A look waits for the ledger no longer than this, and then goes by what was known last.
PATIENCE = timedelta(seconds=2)
#: A ledger that is away is not asked more often.
PAUSE = timedelta(seconds=10)
#: Rollouts that began this much later find their suspensions in the same answer.
SPARE = timedelta(days=1)

#: Returns the suspensions that end after a time.
ReadSuspensions = Callable[[datetime], Sequence["LoggedSuspension"]]


class AskSuspensions(Protocol):
    """Says which suspensions hold for a watch, as of a time."""

    async def __call__(self, plan: WatchPlan, as_of: datetime, log: Log) -> tuple[Suspension, ...]:
        """Return them, the ended ones of this rollout too: a replay needs them."""
        ...


class SuspensionCache:
    """The suspensions of the ledger, as they stood when they were last read.

    Watches that look at the same time share one question, whatever their number.

    :param read: asks the ledger; called in a thread.
    :param now: the clock.
    """

    def __init__(self, read: ReadSuspensions, now: Callable[[], datetime] = utc_now) -> None:
        self._read = read
        self._now = now
        self._known: Sequence[LoggedSuspension] = ()
        self._from: datetime | None = None
        self._as_of: datetime | None = None
        self._failed_at: datetime | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __call__(self, plan: WatchPlan, as_of: datetime, log: Log) -> tuple[Suspension, ...]:
        """Return the suspensions of a watch as of a time, or, without the ledger, as last known."""
        begins = plan.window_start
        if not self._holds(begins, as_of) and not self._rests():
            answered = await self._refresh(begins, log)
            if answered and not self._holds(begins, as_of) and not self._rests():
                # The question that was under way had been asked too early, or for younger rollouts.
                await self._refresh(begins, log)
        return tuple(one.suspension for one in self._known if one.scope.includes(plan.rollout, plan.spec))

    def _holds(self, begins: datetime, as_of: datetime) -> bool:
        if self._as_of is None or self._from is None:
            return False
        return self._as_of >= as_of and self._from <= begins

    def _rests(self) -> bool:
        return self._failed_at is not None and self._now() - self._failed_at < PAUSE

    async def _refresh(self, begins: datetime, log: Log) -> bool:
        """Ask, or wait for the answer to what was asked already; return whether it came in time."""
        reading, loop = self._reading, asyncio.get_running_loop()
        if reading is None or reading.done() or reading.get_loop() is not loop:
            reading = self._reading = loop.create_task(self._ask(begins, log))
        done, _ = await asyncio.wait({reading}, timeout=PATIENCE.total_seconds())
        if not done:
            self._fail(f"no answer within {PATIENCE.total_seconds():g} s", log)
        return bool(done)

    async def _ask(self, begins: datetime, log: Log) -> None:
        asked_at, start = self._now(), begins - SPARE
        if self._from is not None:
            start = min(self._from, start) if begins < self._from else self._from
        try:
            known = await asyncio.to_thread(self._read, start)
        except LedgerError as error:
            self._fail(str(error), log)
            return
        if self._failed_at is not None:
            log.info("the ledger tells about suspensions again")
        self._known, self._from, self._as_of, self._failed_at = known, start, asked_at, None

    def _fail(self, why: str, log: Log) -> None:
        if self._failed_at is None:
            log.warning("suspensions stand as last known: %s", why)
        self._failed_at = self._now()
