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
from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError
from rollback_budget.text import plural

if TYPE_CHECKING:
    from rollback_budget.engine.budget_snapshot import BudgetSnapshot
    from rollback_budget.ledger.looks import LookRecord
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.watch.watch_plan import WatchPlan

#: A batch is written after this time, or when it has this many looks.
BATCH_WAIT = timedelta(seconds=15)
BATCH_SIZE = 2_000
#: Looks that are queued while the ledger is unavailable, about 40 MB: 20 minutes of 5 000 rollouts.
MAX_QUEUED = 100_000
#: An unavailable ledger is tried again after this time.
RETRY_AFTER = timedelta(seconds=15)
#: A process that ends waits this long for its last looks.
FLUSH_TIMEOUT = timedelta(seconds=5)
#: Watches that begin within this time share one query.
_QUERY_WAIT_S = 0.05
#: A watch that begins waits this long to learn which of its looks are in the ledger.
QUERY_TIMEOUT = timedelta(seconds=2)
#: Without an answer it writes the looks that are no older than this: what a restart may have lost.
REWRITE_PERIOD = timedelta(minutes=30)


class LookSink(Protocol):
    """Where the looks of a watch go."""

    async def looks_until(self, plan: WatchPlan) -> datetime | None:
        """Return up to where the looks of a watch need not be recorded again; None to record none at all."""
        ...

    def record(self, plan: WatchPlan, at: datetime, snapshots: Sequence[BudgetSnapshot]) -> None:
        """Record one look; returns at once and never raises."""
        ...

    def alive(self, plan: WatchPlan) -> None:
        """Record that a watch has polled; returns at once and never raises."""
        ...


class LookRepository(Protocol):
    """The part of the ledger that the writer uses; both methods may raise LedgerError."""

    def add(self, records: Sequence[LookRecord]) -> int:
        """Append looks, each once; return how many were of unknown rollouts."""
        ...

    def newest_times(self, keys: Collection[RolloutKey]) -> dict[RolloutKey, datetime]:
        """Return the time of the newest look of each rollout that has any."""
        ...


class HeartbeatRepository(Protocol):
    """The part of the ledger that knows which watches are alive; may raise LedgerError."""

    def beat(self, keys: Collection[RolloutKey]) -> None:
        """Note that the watches of these rollouts are alive now."""
        ...


class LookWriter:
    """Writes the looks of all watches of this process; a watch never waits for it.

    While the ledger is unavailable looks are queued, and beyond ``max_queued`` the oldest are dropped: a
    replay of the source brings them back. Verdicts do not take this path: tasks deliver them.

    :param open_looks: opens the ledger's looks; called in the writing thread.
    :param batch_wait: how long a look waits for others.
    :param retry_after: how long until an unavailable ledger is tried again.
    :param open_heartbeats: opens where it is noted that a watch is alive; called in the writing thread. None
        notes nothing.
    :param by: who watches, as a mark on each look; None for Airflow.
    """

    def __init__(
        self,
        open_looks: Callable[[], LookRepository],
        *,
        log: Log,
        batch_wait: timedelta = BATCH_WAIT,
        retry_after: timedelta = RETRY_AFTER,
        max_queued: int = MAX_QUEUED,
        now: Now = utc_now,
        open_heartbeats: Callable[[], HeartbeatRepository] | None = None,
        by: str | None = None,
    ) -> None:
        self._open_looks = open_looks
        self._open_heartbeats = open_heartbeats
        self._by = by
        self._log = log
        self._batch_wait_s = batch_wait.total_seconds()
        self._retry_after_s = retry_after.total_seconds()
        self._max_queued = max_queued
        self._now = now
        self._change = Condition()
        self._queue: deque[LookRecord] = deque()
        self._alive: set[RolloutKey] = set()
        self._writing = False
        self._flushing = False
        self._dropped = 0
        self._is_unavailable = False
        self._has_warned_of_unknown = False
        self._thread: Thread | None = None
        self._query: asyncio.Task[dict[RolloutKey, datetime] | None] | None = None
        self._queried_keys: set[RolloutKey] = set()
        self._turn = asyncio.Lock()

    async def looks_until(self, plan: WatchPlan) -> datetime | None:
        """Return up to where the ledger has this rollout's looks; watches share one query."""
        if plan.rollout is None:
            return None
        query, loop = self._query, asyncio.get_running_loop()
        if query is None or query.done() or query.get_loop() is not loop:
            self._queried_keys, self._turn = set(), asyncio.Lock()
            query = self._query = loop.create_task(self._query_newest(self._queried_keys))
        self._queried_keys.add(plan.rollout)
        turn = self._turn
        done, _ = await asyncio.wait({query}, timeout=QUERY_TIMEOUT.total_seconds())
        async with turn:
            # Each that shares the answer folds for a while now: whatever else is due comes in between.
            await asyncio.sleep(0)
        known = query.result() if done else None
        if known is None:
            return max(plan.window_start, self._now() - REWRITE_PERIOD)
        return known.get(plan.rollout, plan.window_start)

    def record(self, plan: WatchPlan, at: datetime, snapshots: Sequence[BudgetSnapshot]) -> None:
        """Record one look; returns at once and never raises."""
        if plan.rollout is None:
            return
        from rollback_budget.ledger.looks import LookRecord, pack

        record = LookRecord(plan.rollout, at, pack(plan.spec, snapshots), self._by)
        with self._change:
            self._queue.append(record)
            if len(self._queue) > self._max_queued:
                self._queue.popleft()
                self._dropped += 1
            self._start()
            if len(self._queue) in (1, BATCH_SIZE):
                self._change.notify_all()

    def alive(self, plan: WatchPlan) -> None:
        """Record that a watch has polled; returns at once and never raises."""
        if plan.rollout is None or self._open_heartbeats is None:
            return
        with self._change:
            self._alive.add(plan.rollout)
            self._start()
            if len(self._alive) == 1:
                self._change.notify_all()

    def flush(self, timeout: timedelta = FLUSH_TIMEOUT) -> bool:
        """Write the queue, for no longer than ``timeout``; return whether all of it is written."""
        with self._change:
            if self._thread is None:
                return True
            self._flushing = True
            self._change.notify_all()
            self._change.wait_for(lambda: not self._flushing, timeout=timeout.total_seconds())
            self._flushing = False
            return not self._queue and not self._writing

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._write_forever, name="rollback-budget-looks", daemon=True)
            self._thread.start()
            atexit.register(self.flush)

    async def _query_newest(self, keys: set[RolloutKey]) -> dict[RolloutKey, datetime] | None:
        await asyncio.sleep(_QUERY_WAIT_S)
        self._query = None
        try:
            return await asyncio.to_thread(lambda: self._open_looks().newest_times(keys))
        except LedgerUnavailableError:
            return None
        except LedgerRuleError:
            # A watch does not fail for its curve: it goes on as without an answer.
            logging.getLogger(__name__).exception("the ledger refused to say which looks it has")
            return None

    def _write_forever(self) -> None:
        while True:
            batch, alive = self._next_batch()
            try:
                left_out = self._open_looks().add(batch) if batch else 0
                if alive and self._open_heartbeats is not None:
                    self._open_heartbeats().beat(alive)
            except LedgerUnavailableError as error:
                self._requeue(batch, error)
            except Exception:
                # What the ledger refuses it would refuse again. A replay can bring looks back; a writer that
                # is dead cannot write any.
                logging.getLogger(__name__).exception("%s could not be written", plural(len(batch), "look"))
                self._close(())
            else:
                self._note_written(left_out)
                self._close(())

    def _next_batch(self) -> tuple[list[LookRecord], set[RolloutKey]]:
        with self._change:
            self._change.wait_for(lambda: self._queue or self._alive or self._flushing)
            self._change.wait_for(
                lambda: self._flushing or len(self._queue) >= BATCH_SIZE, timeout=self._batch_wait_s
            )
            self._writing = True
            # A heartbeat that cannot be written is not kept: the next poll brings another.
            alive, self._alive = self._alive, set()
            return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SIZE))], alive

    def _close(self, unwritten: Sequence[LookRecord]) -> None:
        """End a batch; a flush waits until the queue is empty, or until the ledger has failed once."""
        with self._change:
            self._writing = False
            room = self._max_queued - len(self._queue)
            fits = unwritten[max(len(unwritten) - room, 0) :]
            self._dropped += len(unwritten) - len(fits)
            self._queue.extendleft(reversed(fits))
            if unwritten or not self._queue:
                self._flushing = False
                self._change.notify_all()

    def _requeue(self, batch: Sequence[LookRecord], error: LedgerUnavailableError) -> None:
        if not self._is_unavailable:
            self._log.warning(
                "the ledger is unavailable, up to %s looks are queued: %s", self._max_queued, error
            )
        self._is_unavailable = True
        self._close(batch)
        with self._change:
            self._change.wait_for(lambda: self._flushing, timeout=self._retry_after_s)

    def _note_written(self, left_out: int) -> None:
        with self._change:
            dropped, self._dropped = self._dropped, 0
        if self._is_unavailable or dropped:
            self._is_unavailable = False
            self._log.info(
                "the ledger accepts looks again; %s of the oldest were dropped, which a replay brings back",
                dropped,
            )
        if left_out and not self._has_warned_of_unknown:
            self._has_warned_of_unknown = True
            self._log.warning(
                "left out, because their rollouts are not in the ledger: %s", plural(left_out, "look")
            )
