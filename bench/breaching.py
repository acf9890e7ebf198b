"""Many real triggers in one process that all breach: ``python -m bench.breaching N START BREACH FILE``.

Stands in for the triggerer around them, as :mod:`bench.watching` does; ends when every trigger has fired.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.fleet import key_of, plan_of
from rollback_budget.clock import Log
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.model.watch_settings import Watch
from rollback_budget.triggers import on_verdict
from rollback_budget.triggers import rollback_budget as watch_trigger
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import WatchPlan

#: Short, so that the verdicts come as close together as they can: polls are spread over a quarter of it.
WATCH = Watch(
    poll=timedelta(seconds=10),
    step=timedelta(seconds=10),
    settle=timedelta(seconds=4),
    max_gap=timedelta(minutes=5),
)
SCRAPE = timedelta(seconds=2)
#: Long ago: no event is held back, and the process ends with the last of them.
DEFERRED_AT = "2020-01-01T00:00:00+00:00"
BEAT_S = 0.01
#: After the breach; what has not fired by then is lost.
GIVE_UP_S = 180.0


@dataclass
class Noted:
    """What was seen, by the rollout's key where it is one of them; times in seconds since the epoch.

    :param verdicts: when each verdict was known.
    :param acted: when all was done for it that precedes the event.
    :param outcomes: of each request, as the event says it; None where none was requested.
    :param late: how much later than it should the event loop came to each beat, since the breach.
    :param at_work: for how much CPU time of its own thread it had no pause, since the breach.
    :param threads: the most that were alive.
    """

    verdicts: dict[str, float] = field(default_factory=dict)
    acted: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, str | None] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    at_work: list[float] = field(default_factory=list)
    threads: int = 0


@contextmanager
def noting(noted: Noted) -> Iterator[None]:
    """Note what the triggers do for their verdicts."""
    act = on_verdict.act_on_verdict

    async def noted_act(plan: WatchPlan, evaluation: Evaluation, log: Log) -> dict[str, Any]:
        noted.verdicts[str(plan.rollout)] = time.time()
        done = await act(plan, evaluation, log)
        noted.acted[str(plan.rollout)] = time.time()
        return done

    with patch.object(watch_trigger, "act_on_verdict", noted_act):
        yield


async def beat(noted: Noted, since: float) -> None:
    """Note how the event loop does, from ``since`` on."""
    await asyncio.sleep(max(since - time.time(), 0))
    while True:
        begun, begun_cpu = time.monotonic(), time.thread_time()
        await asyncio.sleep(BEAT_S)
        noted.late.append(time.monotonic() - begun - BEAT_S)
        noted.at_work.append(time.thread_time() - begun_cpu)
        noted.threads = max(noted.threads, threading.active_count())


async def consume(number: int, start: datetime, noted: Noted) -> None:
    """Run the trigger of rollout ``number`` until it fires."""
    plan = plan_of(number, start, WATCH, SCRAPE).model_dump_json()
    async for event in RollbackBudgetTrigger(plan=plan, deferred_at=DEFERRED_AT).run():
        request = event.payload["rollback"]
        noted.outcomes[str(key_of(number))] = None if request is None else request["outcome"]


async def run(rollouts: int, start: datetime, breach: datetime) -> dict[str, Any]:
    """Start all, and wait until all have fired; return what was noted."""
    noted = Noted()
    with noting(noted):
        heart = asyncio.create_task(beat(noted, breach.timestamp()))
        tasks = []
        for number in range(rollouts):
            # As the triggerer does.
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(consume(number, start, noted)))
        left_s = breach.timestamp() - time.time() + GIVE_UP_S
        _, lost = await asyncio.wait(tasks, timeout=left_s)
        heart.cancel()
        for task in lost:
            task.cancel()
        ended = await asyncio.gather(heart, *tasks, return_exceptions=True)
    return {
        "verdicts": noted.verdicts,
        "acted": noted.acted,
        "outcomes": noted.outcomes,
        "threads": noted.threads,
        "late_worst_s": max(noted.late, default=0.0),
        "at_work_worst_s": max(noted.at_work, default=0.0),
        "errors": [repr(error) for error in ended if isinstance(error, Exception)],
        "cpu_s": time.process_time(),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    begins, breaches = (datetime.fromisoformat(text) for text in sys.argv[2:4])
    found = asyncio.run(run(int(sys.argv[1]), begins, breaches))
    Path(sys.argv[4]).write_text(json.dumps(found))
