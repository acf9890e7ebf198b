"""Looks on their way to the ledger: collected from all watches of a process, written in batches."""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from threading import Condition, Thread
from typing import TYPE_CHECKING, Protocol

from rollback_budget.clock import Log, Now, utc_now
from rollback_budget.exceptions import LedgerError

if TYPE_CHECKING:
    from rollback_budget.engine.budget_snapshot import BudgetSnapshot
    from rollback_budget.ledger.looks import LookRecord
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.watch.watch_plan import WatchPlan

#: A look waits for others for so long, and no longer than until so many have come.
GATHER = timedelta(seconds=15)
MOST_AT_ONCE = 2_000
#: So many are kept while the ledger is away, about 40 MB: 20 minutes of 5 000 rollouts.
MOST_KEPT = 100_000
#: A ledger that is away is tried again after so long.
PAUSE = timedelta(seconds=15)
#: A process that ends waits so long for its last looks.
LAST_PATIENCE = timedelta(seconds=5)
#: Watches that begin within so many seconds ask together.
_ASK_TOGETHER_S = 0.05
#: A watch that begins waits so long to hear which of its looks are in the ledger.
PATIENCE = timedelta(seconds=2)
#: Without an answer it writes what is no older than this: what a restart may have cost.
SURELY_MISSING = timedelta(minutes=30)


class LookSink(Protocol):
    """Where the looks of a watch go."""

    async def looks_until(self, plan: WatchPlan) -> datetime | None:
        """Return up to where the looks of a watch need not be recorded again; None to record none at all."""
        ...

    def record(self, plan: WatchPlan, at: datetime, standings: Sequence[BudgetSnapshot]) -> None:
        """Take one look; returns at once and never raises."""
        ...


class LedgerOfLooks(Protocol):
    """What is asked of the ledger; both methods may raise LedgerError."""

    def record_looks(self, records: Sequence[LookRecord]) -> int:
        """Append looks, each once; return how many were of unknown rollouts."""
        ...

    def looks_until(self, keys: Collection[RolloutKey]) -> dict[RolloutKey, datetime]:
        """Return the time of the newest look of each rollout that has any."""
        ...


class LookWriter:
    """Writes the looks of all watches of this process; a watch never waits for it.

    While the ledger is away looks are kept, and beyond ``most_kept`` the oldest are dropped: a replay of the
    source can tell them again. Verdicts do not come this way: tasks deliver them.

    :param open_ledger: opens the ledger; called in the writing thread.
    :param gather: how long a look waits for others.
    :param pause: how long a ledger that is away is left alone.
    """

    def __init__(
        self,
        open_ledger: Callable[[], LedgerOfLooks],
        *,
        log: Log,
        gather: timedelta = GATHER,
        pause: timedelta = PAUSE,
        most_kept: int = MOST_KEPT,
        now: Now = utc_now,
    ) -> None:
        self._open_ledger = open_ledger
        self._log = log
        self._gather_s = gather.total_seconds()
        self._pause_s = pause.total_seconds()
        self._most_kept = most_kept
        self._now = now
        self._change = Condition()
        self._kept: deque[LookRecord] = deque()
        self._writing = False
        self._hurry = False
        self._dropped = 0
        self._is_away = False
        self._has_left_out = False
        self._thread: Thread | None = None
        self._asking: asyncio.Task[dict[RolloutKey, datetime] | None] | None = None
        self._asked_about: set[RolloutKey] = set()

    async def looks_until(self, plan: WatchPlan) -> datetime | None:
        """Return up to where the ledger has this rollout's looks; who begins together asks together."""
        if plan.rollout is None:
            return None
        asking, loop = self._asking, asyncio.get_running_loop()
        if asking is None or asking.done() or asking.get_loop() is not loop:
            self._asked_about = set()
            asking = self._asking = loop.create_task(self._ask(self._asked_about))
        self._asked_about.add(plan.rollout)
        done, _ = await asyncio.wait({asking}, timeout=PATIENCE.total_seconds())
        known = asking.result() if done else None
        if known is None:
            return max(plan.window_start, self._now() - SURELY_MISSING)
        return known.get(plan.rollout, plan.window_start)

    def record(self, plan: WatchPlan, at: datetime, standings: Sequence[BudgetSnapshot]) -> None:
        """Take one look; returns at once and never raises."""
        if plan.rollout is None:
            return
        from rollback_budget.ledger.looks import LookRecord, pack

        record = LookRecord(plan.rollout, at, pack(plan.spec, standings))
        with self._change:
            self._kept.append(record)
            if len(self._kept) > self._most_kept:
                self._kept.popleft()
                self._dropped += 1
            if self._thread is None:
                self._thread = Thread(target=self._write_for_ever, name="rollback-budget-looks", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
            if len(self._kept) in (1, MOST_AT_ONCE):
                self._change.notify_all()

    def flush(self, patience: timedelta = LAST_PATIENCE) -> bool:
        """Write what is kept, for no longer than ``patience``; return whether all of it is written."""
        with self._change:
            if self._thread is None:
                return True
            self._hurry = True
            self._change.notify_all()
            self._change.wait_for(lambda: not self._hurry, timeout=patience.total_seconds())
            self._hurry = False
            return not self._kept and not self._writing

    async def _ask(self, keys: set[RolloutKey]) -> dict[RolloutKey, datetime] | None:
        await asyncio.sleep(_ASK_TOGETHER_S)
        self._asking = None
        try:
            return await asyncio.to_thread(lambda: self._open_ledger().looks_until(keys))
        except LedgerError:
            return None

    def _write_for_ever(self) -> None:
        while True:
            batch = self._next_batch()
            try:
                left_out = self._open_ledger().record_looks(batch) if batch else 0
            except LedgerError as error:
                self._put_back(batch, error)
            except Exception:
                # Looks can be told again by a replay; a writer that is dead cannot write any.
                logging.getLogger(__name__).exception("%s looks could not be written", len(batch))
                self._close(())
            else:
                self._note_written(left_out)
                self._close(())

    def _next_batch(self) -> list[LookRecord]:
        with self._change:
            self._change.wait_for(lambda: self._kept or self._hurry)
            self._change.wait_for(
                lambda: self._hurry or len(self._kept) >= MOST_AT_ONCE, timeout=self._gather_s
            )
            self._writing = True
            return [self._kept.popleft() for _ in range(min(len(self._kept), MOST_AT_ONCE))]

    def _close(self, unwritten: Sequence[LookRecord]) -> None:
        """End a batch; who flushes waits until nothing is left, or until the ledger has refused once."""
        with self._change:
            self._writing = False
            room = self._most_kept - len(self._kept)
            kept = unwritten[max(len(unwritten) - room, 0) :]
            self._dropped += len(unwritten) - len(kept)
            self._kept.extendleft(reversed(kept))
            if unwritten or not self._kept:
                self._hurry = False
                self._change.notify_all()

    def _put_back(self, batch: Sequence[LookRecord], error: LedgerError) -> None:
        if not self._is_away:
            self._log.warning("looks wait for the ledger, up to %s of them: %s", self._most_kept, error)
        self._is_away = True
        self._close(batch)
        with self._change:
            self._change.wait_for(lambda: self._hurry, timeout=self._pause_s)

    def _note_written(self, left_out: int) -> None:
        with self._change:
            dropped, self._dropped = self._dropped, 0
        if self._is_away or dropped:
            self._is_away = False
            self._log.info(
                "the ledger takes looks again; %s of the oldest were dropped, which a replay can tell",
                dropped,
            )
        if left_out and not self._has_left_out:
            self._has_left_out = True
            self._log.warning("%s looks are of rollouts that are not in the ledger: left out", left_out)
