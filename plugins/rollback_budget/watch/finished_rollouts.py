"""Which rollouts have ended without their watch, for every watch of this process, from few questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rollback_budget.clock import utc_now
from rollback_budget.exceptions import LedgerError

if TYPE_CHECKING:
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.watch.watch_plan import WatchPlan

#: The ledger is asked once in so long, whatever the number of watches.
EVERY = timedelta(seconds=10)
#: Whoever decided may have had a slow clock, or have taken a while to commit.
OVERLAP = timedelta(minutes=5)

#: Returns the rollouts that got their final decision after a time.
ReadEnded = Callable[[datetime], Collection["RolloutKey"]]


class FinishedRollouts:
    """The rollouts that have their final decision, as it was read last: nothing is left to watch for.

    No look waits for the ledger: what it says counts from the next look on.

    :param read: asks the ledger; called in a thread.
    :param now: the clock.
    """

    def __init__(self, read: ReadEnded, now: Callable[[], datetime] = utc_now) -> None:
        self._read = read
        self._now = now
        self._known: set[RolloutKey] = set()
        self._begins: datetime | None = None
        self._covers: tuple[datetime, datetime] | None = None
        self._asked_at: datetime | None = None
        self._asking: asyncio.Task[None] | None = None

    def __call__(self, plan: WatchPlan) -> bool:
        """Whether the rollout is known to have ended."""
        if plan.rollout is None:
            return False
        begins = plan.window_start if self._begins is None else min(self._begins, plan.window_start)
        self._begins, now = begins, self._now()
        is_due = self._asked_at is None or now - self._asked_at >= EVERY
        if is_due and (self._asking is None or self._asking.done()):
            self._asked_at = now
            self._asking = asyncio.get_running_loop().create_task(self._ask(begins, now))
        return plan.rollout in self._known

    async def _ask(self, begins: datetime, now: datetime) -> None:
        """Learn what is new since the last answer; of everything, once an older window is watched."""
        is_covered = self._covers is not None and self._covers[0] <= begins
        since = self._covers[1] - OVERLAP if self._covers is not None and is_covered else begins
        try:
            self._known.update(await asyncio.to_thread(self._read, since))
        except LedgerError:
            # Asked again soon, from where the last answer left off; a watch goes on meanwhile.
            return
        self._covers = (begins, now)
