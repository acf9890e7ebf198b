"""What a user would do instead of a watch: the floor, and a deferrable ``HttpSensor``'s trigger."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from unittest.mock import patch

from bench.fleet import CONN_ID
from tests.support.network import find_free_port, is_listening, wait_until

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

#: So many times each is asked for the median.
POLLS = 300
#: So many triggers are held for their memory.
HELD = 50


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


async def cpu_of_bare_get(port: int) -> float:
    """Return the CPU seconds of an ``aiohttp`` GET and ``json.loads``, nothing else: the floor."""
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def poll() -> None:
            async with session.get(f"http://127.0.0.1:{port}/") as reply:
                json.loads(await reply.read())

        return await _median_cpu(poll)


async def cpu_of_http_sensor_trigger() -> float:
    """Return the CPU seconds of one poke of the trigger that a deferrable HttpSensor uses."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    trigger = HttpSensorTrigger("missing", http_conn_id=CONN_ID, poke_interval=0)
    begun: list[float] = []
    enough = asyncio.Event()
    sleep = asyncio.sleep

    async def noted_sleep(seconds: float) -> None:
        begun.append(time.process_time())
        if len(begun) > POLLS:
            enough.set()
        await sleep(seconds)

    with patch("airflow.providers.http.triggers.http.asyncio.sleep", noted_sleep):
        task = _start(trigger)
        await asyncio.wait({task, asyncio.create_task(enough.wait())}, return_when="FIRST_COMPLETED")
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return median(after - before for before, after in pairwise(begun))


async def memory_of_http_sensor_trigger() -> float:
    """Return the bytes that one such trigger holds while it waits for its next poke."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    def start() -> asyncio.Task[object]:
        return _start(HttpSensorTrigger("missing", http_conn_id=CONN_ID, poke_interval=3600))

    first = start()
    await asyncio.sleep(1)
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [start() for _ in range(HELD)]
    await asyncio.sleep(3)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert not any(task.done() for task in (first, *tasks))
    for task in (first, *tasks):
        task.cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    return held / HELD


def _start(trigger: BaseTrigger) -> asyncio.Task[object]:
    async def run() -> object:
        return await anext(trigger.run())

    return asyncio.create_task(run())


async def _median_cpu(poll: Callable[[], Awaitable[None]]) -> float:
    seconds = []
    for _ in range(POLLS):
        begun = time.process_time()
        await poll()
        seconds.append(time.process_time() - begun)
    return median(seconds)
