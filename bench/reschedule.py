"""What one poke of ``HttpSensor`` in reschedule mode costs a real Airflow, all of its components."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import psutil  # type: ignore[import-untyped]

from bench.fleet import CONN_ID
from demo.stack import COMPONENTS, AirflowStack

SENSORS, POKE_INTERVAL_S = 4, 10
IDLE_S, BUSY_S, SAMPLE_S = 30.0, 80.0, 4.0
DAG = f"""
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG

with DAG("watches", schedule=None, max_active_tasks={SENSORS}):
    for number in range({SENSORS}):
        HttpSensor(task_id=f"watch_{{number}}", http_conn_id="{CONN_ID}", endpoint="missing",
                   mode="reschedule", poke_interval={POKE_INTERVAL_S})
"""


@dataclass(frozen=True)
class Rescheduled:
    """What is on top of the same Airflow with nothing to do.

    :param cpu_s: of one poke.
    :param memory: mean bytes of one sensor, its processes' shares of what they share included.
    :param pokes: how many were counted.
    """

    cpu_s: float
    memory: float
    pokes: int


def measure_reschedule(home: Path, port: int) -> Rescheduled:
    """Run some sensors on an Airflow of their own for a while."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    (dags / "watches.py").write_text(DAG)
    stack = AirflowStack(home / "airflow", dags)
    stack.add_connection(CONN_ID, f"http://127.0.0.1:{port}")
    with stack:
        stack.wait_for_dags(["watches"])
        idle, idle_memory = _cpu_s(stack), _memory(stack, IDLE_S)
        idle = (_cpu_s(stack) - idle) / IDLE_S
        stack.api.trigger("watches")
        time.sleep(2 * POKE_INTERVAL_S)
        busy, pokes, begun = _cpu_s(stack), _pokes(port), time.monotonic()
        memory = _memory(stack, BUSY_S)
        busy, pokes = _cpu_s(stack) - busy, _pokes(port) - pokes
        busy -= idle * (time.monotonic() - begun)
        return Rescheduled(busy / pokes, (memory - idle_memory) / SENSORS, pokes)


def _pokes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as reply:
        return int(reply.read())


def _cpu_s(stack: AirflowStack) -> float:
    """Return what the stack's processes used, those that have ended and were waited for included."""
    total = 0.0
    for process in _processes(stack):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory(stack: AirflowStack, seconds: float) -> float:
    """Return the mean bytes of all processes over a while, what they share divided among them."""
    until, found = time.monotonic() + seconds, []
    while time.monotonic() < until:
        total = 0
        for process in _processes(stack):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        found.append(total)
        time.sleep(max(min(SAMPLE_S, until - time.monotonic()), 0))
    return mean(found)


def _processes(stack: AirflowStack) -> Iterator[psutil.Process]:
    for name in COMPONENTS:
        pid = stack.pid(name)
        assert pid is not None
        root = psutil.Process(pid)
        yield from (root, *root.children(recursive=True))
