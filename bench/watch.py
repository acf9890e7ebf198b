"""One poll of one rollout, beside what else could ask for its metrics, and how it stays over a day."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

from bench.alternatives import canned, cpu_of_bare_get, cpu_of_bare_query, memory_of_http_sensor_trigger
from bench.figure import Figure
from bench.fleet import CONN_ID, backfilled_metrics, plan_of, query_of

TITLE = "One poll of a rollout of 4 budgets: CPU of everything but the backend"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
#: So many rollouts share a request where there are enough; so many follow the whole day.
TOGETHER, ALL_DAY = 50, 5
#: Minutes that are followed for the cost of a poll, the first few left out; and of the day.
SOME, WARM_UP, DAY = 120, 10, 24 * 60 - 1
#: Our poll and what it is compared with in one process take turns so many times.
ROUNDS = 5
HOST = f"AIRFLOW_CONN_{CONN_ID.upper()}"


def measure() -> list[Figure]:
    """Everything in one run, one after the other, on the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with patch.dict(os.environ, {"AIRFLOW_HOME": str(home)}):
            return _measure(home)


def _measure(home: Path) -> list[Figure]:
    # Imported late: Airflow reads its home when it is.
    from bench.in_airflow import measure_in_airflow

    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    with backfilled_metrics(home / "prometheus", TOGETHER, start) as url:
        os.environ[HOST] = url
        alone = asyncio.run(follow(1, start, SOME))
        answer = home / "answer.json"
        answer.write_bytes(alone.body)
        with canned(answer) as port:
            rounds = [_round(url, port, start) for _ in range(ROUNDS)]
            os.environ[HOST] = f"http://127.0.0.1:{port}"
            sensor_trigger_kept = asyncio.run(memory_of_http_sensor_trigger())
            os.environ[HOST] = url
        all_day = asyncio.run(follow(ALL_DAY, start, DAY))
        kept_at_first = asyncio.run(kept_by_watches(TOGETHER, start, minutes=5))
        kept = asyncio.run(kept_by_watches(TOGETHER, start, minutes=180))
    real = measure_in_airflow(home / "real", answer)
    ours, floor = median(r.ours for r in rounds), median(r.floor for r in rounds)
    single = median(alone.seconds[WARM_UP:])
    first, last = sum(all_day.seconds[60:120]), sum(all_day.seconds[-60:])
    return [
        Figure("bytes of one answer, both versions", len(alone.body), "B"),
        Figure("the floor: aiohttp GET of the same bytes and json.loads", floor * 1e3, "ms"),
        Figure(f"our poll, {TOGETHER} rollouts queried together", ours * 1e3, "ms"),
        Figure("our poll, a rollout alone", single * 1e3, "ms"),
        Figure("our poll over the floor, together", median(r.ours / r.floor for r in rounds), "x", 2),
        Figure(
            "the same question put to the same Prometheus by bare aiohttp, and json.loads",
            median(r.bare for r in rounds) * 1e3,
            "ms",
        ),
        Figure("our poll over that, together", median(r.ours / r.bare for r in rounds), "x"),
        Figure("our poll over the floor, alone", single / floor, "x"),
        Figure(f"in a real triggerer: our poll, of {real.watch_polls}", real.watch * 1e3, "ms"),
        Figure(
            f"in a real triggerer: a poke of HttpSensorTrigger, of {real.deferred_polls}",
            real.deferred * 1e3,
            "ms",
        ),
        Figure(
            f"in all of a real Airflow: a poke of HttpSensor in reschedule mode, of {real.rescheduled_polls}",
            real.rescheduled * 1e3,
            "ms",
        ),
        Figure(
            "HttpSensorTrigger's over ours, both in the triggerer",
            real.deferred / real.watch,
            "x",
            at_least=5,
        ),
        Figure(
            "reschedule mode's over ours in the triggerer", real.rescheduled / real.watch, "x", at_least=800
        ),
        Figure("a poll of the day's last hour over one of its second hour", last / first, "x", 1.2),
        Figure("memory of a watch, its plan included, after 5 looks", kept_at_first / 1024, "KiB"),
        Figure("memory of a watch after 3 hours of looks", kept / 1024, "KiB"),
        Figure("memory of an HttpSensorTrigger, its task included", sensor_trigger_kept / 1024, "KiB"),
        Figure("memory of a sensor in reschedule mode, mean", real.rescheduled_memory / 1024, "KiB"),
        Figure("from a settled bucket to its verdict, request included", median(r.wait for r in rounds), "s"),
    ]


class Round(NamedTuple):
    """CPU seconds of a poll, ours and two lesser ones; and seconds from a settled bucket to verdicts."""

    ours: float
    floor: float
    bare: float
    wait: float


def _round(url: str, port: int, start: datetime) -> Round:
    """Measure all of them, one right after the other: what else the machine does changes by the minute."""
    ours = asyncio.run(follow(TOGETHER, start, SOME))
    floor = asyncio.run(cpu_of_bare_get(port))
    queries = [query_of(number) for number in range(TOGETHER)]
    bare = asyncio.run(cpu_of_bare_query(url, queries, start))
    return Round(median(ours.seconds[WARM_UP:]), floor, bare, median(ours.waits))


class Followed:
    """What following some rollouts cost.

    :param seconds: CPU of one poll of one rollout, poll by poll.
    :param waits: from the moment that a bucket has settled to the verdicts of all, in seconds.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waits: list[float] = []
        self.body = b""


class Warnings(logging.Handler):
    """Collects what is said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take in one line."""
        self.said.append(record.getMessage())


async def follow(rollouts: int, start: datetime, minutes: int) -> Followed:
    """Watch minute by minute of the source's time with the trigger's own code."""
    from rollback_budget.hooks.http import close_shared_session
    from rollback_budget.hooks.metric_source import open_shared_source
    from rollback_budget.model.interning import share
    from rollback_budget.transport.async_client import AiohttpClient
    from rollback_budget.transport.response import Response
    from rollback_budget.watch.watcher import Watcher

    found, now = Followed(), start
    ask = AiohttpClient.request

    async def remember(self: AiohttpClient, *args: Any, **options: Any) -> Response:
        reply = await ask(self, *args, **options)
        found.body = reply.body
        return reply

    quiet = logging.getLogger("bench.quiet")
    quiet.setLevel(logging.WARNING)
    warned = Warnings()
    quiet.handlers = [warned]
    plans = [plan_of(number, start) for number in range(rollouts)]
    watchers = [
        Watcher(
            plan.model_copy(update={"spec": share(plan.spec)}), open_shared_source, log=quiet, now=lambda: now
        )
        for plan in plans
    ]
    settle = plans[0].spec.watch.settle
    with patch.object(AiohttpClient, "request", remember):
        for minute in range(1, minutes + 1):
            now = start + settle + minute * MINUTE
            begun, cpu = time.monotonic(), time.process_time()
            verdicts = await asyncio.gather(*(watcher.look() for watcher in watchers))
            found.seconds.append((time.process_time() - cpu) / rollouts)
            found.waits.append(time.monotonic() - begun)
            assert not any(verdicts), verdicts
    assert not warned.said, warned.said
    await close_shared_session()
    return found


async def kept_by_watches(rollouts: int, start: datetime, minutes: int) -> float:
    """Return the bytes that one watch holds, its trigger's plan included."""
    from rollback_budget.hooks.http import close_shared_session
    from rollback_budget.hooks.metric_source import open_shared_source
    from rollback_budget.model.interning import share
    from rollback_budget.watch.watch_plan import WatchPlan
    from rollback_budget.watch.watcher import Watcher

    quiet = logging.getLogger("bench.quiet")
    now = start

    def begin(text: str) -> Watcher:
        plan = WatchPlan.model_validate_json(text)
        plan = plan.model_copy(update={"spec": share(plan.spec)})
        return Watcher(plan, open_shared_source, log=quiet, now=lambda: now)

    async def look(watchers: list[Watcher]) -> None:
        nonlocal now
        # By the hour, and the last few by themselves, as a watch that was restarted does.
        for minute in (*range(60, minutes - 5, 60), *range(max(minutes - 5, 1), minutes + 1)):
            now = start + minute * MINUTE + MINUTE
            await asyncio.gather(*(watcher.look() for watcher in watchers))

    first = begin(plan_of(0, start).model_dump_json())
    await look([first])
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    texts = [plan_of(number, start).model_dump_json() for number in range(rollouts)]
    watchers = [begin(text) for text in texts]
    await look(watchers)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    await close_shared_session()
    return held / len(watchers)
