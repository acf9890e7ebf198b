"""One poll of one rollout, beside what else could ask for its metrics, and how it stays over a day."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from bench.figure import Figure
from bench.fleet import CONN_ID, backfilled_metrics, plan_of
from tests.support.network import find_free_port, is_listening, wait_until

TITLE = "One poll of a rollout of 4 budgets: CPU of everything that is ours, the server's left out"
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
#: So many rollouts share a request.
TOGETHER = 50
POLLS = 400
HOSTS = ("AIRFLOW_HOME", f"AIRFLOW_CONN_{CONN_ID.upper()}")


def measure() -> list[Figure]:
    """Everything in one run, one after the other, on the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with patch.dict(os.environ, {"AIRFLOW_HOME": str(home)}):
            return _measure(home)


def _measure(home: Path) -> list[Figure]:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    with backfilled_metrics(home / "prometheus", TOGETHER, start) as url:
        os.environ[HOSTS[1]] = url
        alone = asyncio.run(follow(1, start, POLLS))
        together = asyncio.run(follow(TOGETHER, start, DAY - 1))
        body = alone.body
        kept = asyncio.run(kept_by_watches(TOGETHER, start))
    answer = home / "answer.json"
    answer.write_bytes(body)
    with canned(answer) as port:
        floor = asyncio.run(bare(port))
        os.environ[HOSTS[1]] = f"http://127.0.0.1:{port}"
        sensor_trigger = asyncio.run(http_sensor_trigger(port))
        from bench.reschedule import cpu_per_poke

        reschedule = cpu_per_poke(home / "reschedule", port)
    ours, single = median(together.seconds), median(alone.seconds)
    first, last = sum(together.seconds[60:120]), sum(together.seconds[-60:])
    return [
        Figure("bytes of one answer, both versions", len(body), "B"),
        Figure(f"one poll, {TOGETHER} rollouts asked for together", ours * 1e3, "ms"),
        Figure("one poll, a rollout alone", single * 1e3, "ms"),
        Figure("the floor: aiohttp GET of the same bytes and json.loads", floor * 1e3, "ms"),
        Figure("HttpSensorTrigger, one poke of the same bytes", sensor_trigger * 1e3, "ms"),
        Figure("HttpSensor in reschedule mode, one poke, all of Airflow", reschedule * 1e3, "ms"),
        Figure("our poll over the floor, together", ours / floor, "x", 2),
        Figure("our poll over the floor, alone", single / floor, "x"),
        Figure("our poll over HttpSensorTrigger's", ours / sensor_trigger, "x", 1 / 5),
        Figure("our poll over reschedule mode's", ours / reschedule, "x", 1 / 800),
        Figure("a poll of the day's last hour over one of its second hour", last / first, "x", 1.2),
        Figure("memory of a watch, its plan included", kept / 1024, "KiB"),
        Figure("from a settled bucket asked for to the verdict, median", median(together.waits), "s"),
    ]


class Followed:
    """What following some rollouts cost.

    :param seconds: CPU of one poll of one rollout, poll by poll.
    :param waits: from the question to the verdict, in seconds.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waits: list[float] = []
        self.body = b""


async def follow(rollouts: int, start: datetime, minutes: int) -> Followed:
    """Watch minute by minute of the source's time with the trigger's own code."""
    from rollback_budget.sources.http_client import AiohttpClient, Reply
    from rollback_budget.workflow.http_connection import close_shared_session
    from rollback_budget.workflow.shared_sources import open_shared_source
    from rollback_budget.workflow.watcher import Watcher

    found, now = Followed(), start
    ask = AiohttpClient.request

    async def remember(self: AiohttpClient, *args: Any, **options: Any) -> Reply:
        reply = await ask(self, *args, **options)
        found.body = reply.body
        return reply

    quiet = logging.getLogger("bench.quiet")
    quiet.setLevel(logging.ERROR)
    watchers = [
        Watcher(plan_of(number, start), open_shared_source, log=quiet, now=lambda: now)
        for number in range(rollouts)
    ]
    settle = plan_of(0, start).spec.watch.settle
    with patch.object(AiohttpClient, "request", remember):
        for minute in range(1, minutes + 1):
            now = start + settle + minute * MINUTE
            begun, cpu = time.monotonic(), time.process_time()
            verdicts = await asyncio.gather(*(watcher.look() for watcher in watchers))
            found.seconds.append((time.process_time() - cpu) / rollouts)
            found.waits.append(time.monotonic() - begun)
            assert not any(verdicts), verdicts
    assert not any(watcher._watch_log._trouble for watcher in watchers)
    await close_shared_session()
    return found


async def kept_by_watches(rollouts: int, start: datetime) -> float:
    """Return the bytes that one watch holds after its first looks."""
    from rollback_budget.workflow.http_connection import close_shared_session
    from rollback_budget.workflow.plan import WatchPlan
    from rollback_budget.workflow.shared_sources import open_shared_source
    from rollback_budget.workflow.watcher import Watcher

    quiet = logging.getLogger("bench.quiet")
    now = start + 3 * timedelta(hours=1)

    async def begin(text: str) -> tuple[str, WatchPlan, Watcher]:
        plan = WatchPlan.model_validate_json(text)
        watcher = Watcher(plan, open_shared_source, log=quiet, now=lambda: now)
        await watcher.look()
        return text, plan, watcher

    await begin(plan_of(0, start).model_dump_json())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    texts = [plan_of(number, start).model_dump_json() for number in range(rollouts)]
    kept = await asyncio.gather(*map(begin, texts))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    await close_shared_session()
    return held / len(kept)


async def bare(port: int) -> float:
    """Return the CPU seconds of a GET and json.loads, nothing else."""
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def poll() -> None:
            async with session.get(f"http://127.0.0.1:{port}/") as reply:
                json.loads(await reply.read())

        return await cpu_of(poll)


async def http_sensor_trigger(port: int) -> float:  # noqa: ARG001
    """Return the CPU seconds of one poke of the trigger that a deferrable HttpSensor uses."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    trigger = HttpSensorTrigger("missing", http_conn_id=CONN_ID, poke_interval=0)
    pokes, enough = 0, asyncio.Event()
    sleep = asyncio.sleep

    async def counted_sleep(seconds: float) -> None:
        nonlocal pokes
        pokes += 1
        if pokes > POLLS:
            enough.set()
        await sleep(seconds)

    async def run() -> None:
        async for event in trigger.run():
            raise RuntimeError(f"it ended: {event}")

    with patch("airflow.providers.http.triggers.http.asyncio.sleep", counted_sleep):
        task = asyncio.create_task(run())
        begun = time.process_time()
        await asyncio.wait({task, asyncio.create_task(enough.wait())}, return_when="FIRST_COMPLETED")
        used = time.process_time() - begun
    assert not task.done(), task
    task.cancel()
    return used / pokes


async def cpu_of(poll: Callable[[], Awaitable[None]]) -> float:
    """Return the median CPU seconds of one poll."""
    seconds = []
    for _ in range(POLLS):
        begun = time.process_time()
        await poll()
        seconds.append(time.process_time() - begun)
    return median(seconds)


@contextmanager
def canned(answer: Path) -> Iterator[int]:
    """Serve one answer from a process of its own; yield its port."""
    port = find_free_port()
    server = subprocess.Popen([sys.executable, "-m", "bench.canned", str(port), str(answer)])
    try:
        wait_until(lambda: is_listening(port), what="the canned server")
        yield port
    finally:
        server.kill()
        server.wait()
