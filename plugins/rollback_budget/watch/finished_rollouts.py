"""Finished rollouts: those decided elsewhere, for every watch of this process, with few queries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rollback_budget.clock import utc_now
from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError

if TYPE_CHECKING:
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.watch.watch_plan import WatchPlan

#: The ledger is queried at this interval, whatever the number of watches.
READ_INTERVAL = timedelta(seconds=10)
#: A process that decided may have had a slow clock, or have taken a while to commit.
OVERLAP = timedelta(minutes=5)

#: Returns the rollouts that got their final decision after a time.
ReadFinished = Callable[[datetime], Collection["RolloutKey"]]


class FinishedRollouts:
    """The rollouts that have their final decision, as it was read last: nothing is left to watch for.

    No look waits for the ledger: what it says counts from the next look on.

    :param read: queries the ledger; called in a thread.
    :param now: the clock.
    """

    def __init__(self, read: ReadFinished, now: Callable[[], datetime] = utc_now) -> None:
        self._read = read
        self._now = now
        self._known: set[RolloutKey] = set()
        self._window_start: datetime | None = None
        self._covered: tuple[datetime, datetime] | None = None
        self._read_at: datetime | None = None
        self._query: asyncio.Task[None] | None = None

    def __call__(self, plan: WatchPlan) -> bool:
        """Whether the rollout is known to have ended."""
        if plan.rollout is None:
            return False
        window_start = (
            plan.window_start if self._window_start is None else min(self._window_start, plan.window_start)
        )
        self._window_start, now = window_start, self._now()
        is_due = self._read_at is None or now - self._read_at >= READ_INTERVAL
        if is_due and (self._query is None or self._query.done()):
            self._read_at = now
            self._query = asyncio.get_running_loop().create_task(self._read_ledger(window_start, now))
        return plan.rollout in self._known

    async def _read_ledger(self, window_start: datetime, now: datetime) -> None:
        """Learn what is new since the last answer; of everything, once an older window is watched."""
        is_covered = self._covered is not None and self._covered[0] <= window_start
        since = self._covered[1] - OVERLAP if self._covered is not None and is_covered else window_start
        try:
            self._known.update(await asyncio.to_thread(self._read, since))
        except LedgerUnavailableError:
            # Asked again soon, from where the last answer left off; a watch goes on meanwhile.
            return
        except LedgerRuleError:
            logging.getLogger(__name__).exception("the ledger refused to say which rollouts have ended")
            return
        self._covered = (window_start, now)
