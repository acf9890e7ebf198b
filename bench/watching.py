"""Very many real triggers in one process: ``python -m bench.watching N SECONDS START FILE``.

Stands in for the triggerer around them: the loop, the triggers, their sources and ledger are the real ones;
Airflow's own work (its database, heartbeats, log files) is not in it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from bench.fleet import plan_of
from rollback_budget.clock import utc_now
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.task_log import TaskLog
from rollback_budget.watch.watcher import Watcher

BEAT_S = 0.01
#: Watches that start at once are given so long to catch up, before what they do is taken for usual.
START_S = 120.0


class Record:
    """What was seen since it was last cleared."""

    def __init__(self) -> None:
        self.begun_late: list[float] = []
        self.ended_late: list[float] = []
        #: From the moment that a bucket has settled to its verdict.
        self.verdict_after: list[float] = []
        self.unknown = 0
        self.blocked: list[float] = []
        self.busy: list[float] = []
        self.collected: list[float] = []
        self.caught_up: list[float] = []
        self.cpu_s = time.process_time()
        self.at = time.monotonic()

    def figures(self) -> dict[str, Any]:
        cpu = (time.process_time() - self.cpu_s) / (time.monotonic() - self.at)
        begun, ended = sorted(self.begun_late), sorted(self.ended_late)
        delays = sorted(self.verdict_after)
        return {
            "polls": len(ended),
            "begun_late_p99_s": begun[int(0.99 * len(begun))] if begun else None,
            "ended_late_p99_s": ended[int(0.99 * len(ended))] if ended else None,
            "ended_within_2_s": sum(late <= 2 for late in ended) / max(len(ended), 1),
            "verdict_after_median_s": delays[len(delays) // 2] if delays else None,
            "verdict_after_p99_s": delays[int(0.99 * len(delays))] if delays else None,
            "unknown_looks": self.unknown,
            "blocked_worst_s": max(self.blocked, default=0.0),
            "busy_worst_s": max(self.busy, default=0.0),
            "collected_worst_s": max(self.collected, default=0.0),
            "full_collections": len(self.collected),
            "objects": len(gc.get_objects()),
            "caught_up": len(self.caught_up),
            "caught_up_after_s": max(self.caught_up, default=0.0),
            "cpu_share": cpu,
            "cpu_per_poll_s": cpu * (time.monotonic() - self.at) / max(len(ended), 1),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


@contextmanager
def noting(records: list[Record]) -> Iterator[None]:
    """Note when looks are due, begin and end."""
    due: WeakKeyDictionary[Watcher, float] = WeakKeyDictionary()
    look, wait, note = Watcher.look, Watcher.seconds_to_next_look, TaskLog.on_source_error

    async def noted_look(self: Watcher) -> Any:
        begun, before = time.monotonic(), self._readers[0].read_until
        evaluation = await look(self)
        if self in due:
            if self._readers[0].read_until > before:
                settled = self._readers[0].read_until + self._spec.watch.settle
                records[-1].verdict_after.append((utc_now() - settled).total_seconds())
            records[-1].begun_late.append(begun - due[self])
            records[-1].ended_late.append(time.monotonic() - due[self])
        else:
            records[-1].caught_up.append(time.monotonic() - records[-1].at)
        return evaluation

    def noted_wait(self: Watcher) -> float:
        seconds = wait(self)
        due[self] = time.monotonic() + seconds
        return seconds

    def noted_error(self: TaskLog, error: str | None) -> None:
        records[-1].unknown += error is not None
        note(self, error)

    with (
        patch.object(Watcher, "look", noted_look),
        patch.object(Watcher, "seconds_to_next_look", noted_wait),
        patch.object(TaskLog, "on_source_error", noted_error),
    ):
        yield


async def beat(records: list[Record]) -> None:
    """Note by how much the loop comes too late, and for how much of that the process was at work."""
    while True:
        begun, begun_cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(BEAT_S)
        records[-1].blocked.append(time.monotonic() - begun - BEAT_S)
        records[-1].busy.append(time.process_time() - begun_cpu)


@contextmanager
def collecting(records: list[Record]) -> Iterator[None]:
    """Note how much CPU each full garbage collection takes, since other processes are no part of it."""
    begun = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal begun
        if info["generation"] == 2 and phase == "start":
            begun = time.thread_time()
        elif info["generation"] == 2:
            records[-1].collected.append(time.thread_time() - begun)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


def _full_collection() -> float:
    """Return the CPU seconds of a full garbage collection of this process as it is."""
    gc.collect()
    begun = time.thread_time()
    gc.collect()
    return time.thread_time() - begun


async def run(rollouts: int, seconds: float, start: datetime) -> dict[str, Any]:
    """Start all at once, as after a mass restart; then watch for a while."""
    # What a triggerer has imported before its first trigger.
    importlib.import_module("airflow.jobs.triggerer_job_runner")
    importlib.import_module("airflow.sdk.execution_time.task_runner")
    empty = _full_collection()
    records = [Record()]
    now = utc_now()
    triggers = [
        RollbackBudgetTrigger(plan=plan_of(number, start).model_dump_json(), deferred_at=now.isoformat())
        for number in range(rollouts)
    ]

    async def consume(trigger: RollbackBudgetTrigger) -> None:
        async for event in trigger.run():
            raise RuntimeError(f"a watch ended: {event}")

    with noting(records), collecting(records):
        heart = asyncio.create_task(beat(records))
        tasks = []
        for trigger in triggers:
            # As the triggerer does.
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(consume(trigger)))
        await asyncio.sleep(START_S)
        starting = records[-1].figures()
        records.append(Record())
        await asyncio.sleep(seconds)
        steady = records[-1].figures()
        ended = [task for task in tasks if task.done()]
        heart.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {"start": starting, "steady": steady, "ended": len(ended), "empty_collection_s": empty}


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    window_start = datetime.fromisoformat(sys.argv[3])
    noted = asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]), window_start))
    Path(sys.argv[4]).write_text(json.dumps(noted))
