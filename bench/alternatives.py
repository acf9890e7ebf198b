"""What a user would do instead of a watch, in this process: the floor, and what a sensor's trigger holds."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from urllib.parse import quote_plus

from bench.fleet import CONN_ID
from tests.support.network import find_free_port, is_listening, wait_until

#: As many as our rollouts that poll together, in so many rounds; in between there is nothing to do, as there.
TOGETHER, ROUNDS, PAUSE_S = 50, 60, 0.15


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

    seconds = []
    async with aiohttp.ClientSession() as session:

        async def poll() -> None:
            async with session.get(f"http://127.0.0.1:{port}/") as reply:
                json.loads(await reply.read())

        for _ in range(ROUNDS):
            await asyncio.sleep(PAUSE_S)
            begun = time.process_time()
            await asyncio.gather(*(poll() for _ in range(TOGETHER)))
            seconds.append((time.process_time() - begun) / TOGETHER)
    return median(seconds)


async def cpu_of_bare_query(url: str, queries: Sequence[str], start: datetime) -> float:
    """Return the CPU seconds of putting one of ``queries`` to a Prometheus and ``json.loads``, nothing else.

    Each is put by itself, as many at once as ours are together, minute by minute from ``start`` on; they are
    quoted once and for all.
    """
    import aiohttp

    bodies = [f"query={quote_plus(query)}&step=60&" for query in queries]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    seconds = []
    async with aiohttp.ClientSession(url, headers=form) as session:

        async def poll(body: str) -> None:
            async with session.post("/api/v1/query_range", data=body.encode()) as reply:
                assert json.loads(await reply.read())["status"] == "success"

        for minute in range(1, ROUNDS + 1):
            await asyncio.sleep(PAUSE_S)
            at = (start + timedelta(minutes=minute)).timestamp()
            begun = time.process_time()
            await asyncio.gather(*(poll(f"{body}start={at}&end={at}") for body in bodies))
            seconds.append((time.process_time() - begun) / len(bodies))
    return median(seconds)


async def memory_of_http_sensor_trigger() -> float:
    """Return the bytes that one such trigger holds while it waits for its next poke."""
    import structlog
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    def start() -> asyncio.Task[object]:
        trigger = HttpSensorTrigger("missing", http_conn_id=CONN_ID, poke_interval=3600)

        async def run() -> object:
            return await anext(trigger.run())

        return asyncio.create_task(run())

    # Each poke says three times that it got a 404.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    first = start()
    await asyncio.sleep(1)
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [start() for _ in range(TOGETHER)]
    await asyncio.sleep(3)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert not any(task.done() for task in (first, *tasks))
    for task in (first, *tasks):
        task.cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    return held / TOGETHER
