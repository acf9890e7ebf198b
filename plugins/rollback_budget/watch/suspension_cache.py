"""Suspensions for every watch of this process, with few queries to the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from rollback_budget.clock import Log, utc_now
from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError

if TYPE_CHECKING:
    from rollback_budget.engine.suspension import Suspension
    from rollback_budget.ledger.views import LoggedSuspension
    from rollback_budget.watch.watch_plan import WatchPlan

#: A look waits for the ledger no longer than this, and then uses the last answer.
READ_TIMEOUT = timedelta(seconds=2)
#: An unavailable ledger is tried again after this time.
RETRY_AFTER = timedelta(seconds=10)
#: Rollouts that began this much later find their suspensions in the same answer.
MARGIN = timedelta(days=1)

#: Returns the suspensions that end after a time.
ReadSuspensions = Callable[[datetime], Sequence["LoggedSuspension"]]


class SuspensionLookup(Protocol):
    """Returns the suspensions of a watch, as of a time."""

    async def __call__(self, plan: WatchPlan, as_of: datetime, log: Log) -> tuple[Suspension, ...]:
        """Return them, the ended ones of this rollout too: a replay needs them."""
        ...


class SuspensionCache:
    """The suspensions of the ledger, as they stood when they were last read.

    Watches that look at the same time share one query, whatever their number.

    :param read: queries the ledger; called in a thread.
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
        window_start = plan.window_start
        if not self._covers(window_start, as_of) and not self._is_backing_off():
            answered = await self._refresh(window_start, log)
            if answered and not self._covers(window_start, as_of) and not self._is_backing_off():
                # The query that was running had begun too early, or was for younger rollouts.
                await self._refresh(window_start, log)
        return tuple(one.suspension for one in self._known if one.scope.includes(plan.rollout, plan.spec))

    def _covers(self, window_start: datetime, as_of: datetime) -> bool:
        if self._as_of is None or self._from is None:
            return False
        return self._as_of >= as_of and self._from <= window_start

    def _is_backing_off(self) -> bool:
        return self._failed_at is not None and self._now() - self._failed_at < RETRY_AFTER

    async def _refresh(self, window_start: datetime, log: Log) -> bool:
        """Query the ledger, or join the query that is running; return whether its answer came in time."""
        reading, loop = self._reading, asyncio.get_running_loop()
        if reading is None or reading.done() or reading.get_loop() is not loop:
            reading = self._reading = loop.create_task(self._read_ledger(window_start, log))
        done, _ = await asyncio.wait({reading}, timeout=READ_TIMEOUT.total_seconds())
        if not done:
            self._fail(f"no answer within {READ_TIMEOUT.total_seconds():g} s", log)
        return bool(done)

    async def _read_ledger(self, window_start: datetime, log: Log) -> None:
        read_at, start = self._now(), window_start - MARGIN
        if self._from is not None:
            start = min(self._from, start) if window_start < self._from else self._from
        try:
            known = await asyncio.to_thread(self._read, start)
        except LedgerUnavailableError as error:
            self._fail(str(error), log)
            return
        except LedgerRuleError as error:
            # A watch never stops for its suspensions, but this does not end by itself.
            logging.getLogger(__name__).exception("the ledger refused to say which suspensions hold")
            self._fail(str(error), log)
            return
        if self._failed_at is not None:
            log.info("suspensions are read from the ledger again")
        self._known, self._from, self._as_of, self._failed_at = known, start, read_at, None

    def _fail(self, why: str, log: Log) -> None:
        if self._failed_at is None:
            log.warning("the ledger is unavailable, suspensions stay as last read: %s", why)
        self._failed_at = self._now()
