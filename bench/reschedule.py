"""What one poke of ``HttpSensor`` in reschedule mode costs a real Airflow, all of its components."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench.fleet import CONN_ID
from demo.stack import COMPONENTS, AirflowStack

SENSORS, POKE_INTERVAL_S = 4, 10
IDLE_S, BUSY_S = 40.0, 100.0
DAG = f"""
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG

with DAG("watches", schedule=None, max_active_tasks={SENSORS}):
    for number in range({SENSORS}):
        HttpSensor(task_id=f"watch_{{number}}", http_conn_id="{CONN_ID}", endpoint="missing",
                   mode="reschedule", poke_interval={POKE_INTERVAL_S})
"""


def cpu_per_poke(home: Path, port: int) -> float:
    """Return the CPU seconds of one poke, over what the same Airflow uses while it has nothing to do."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    (dags / "watches.py").write_text(DAG)
    stack = AirflowStack(home / "airflow", dags)
    stack.add_connection(CONN_ID, f"http://127.0.0.1:{port}")
    with stack:
        stack.wait_for_dags(["watches"])
        idle = _cpu_s(stack)
        time.sleep(IDLE_S)
        idle = (_cpu_s(stack) - idle) / IDLE_S
        stack.api.trigger("watches")
        time.sleep(POKE_INTERVAL_S)
        busy, pokes, begun = _cpu_s(stack), _pokes(port), time.monotonic()
        time.sleep(BUSY_S)
        busy, pokes = _cpu_s(stack) - busy, _pokes(port) - pokes
        return (busy - idle * (time.monotonic() - begun)) / pokes


def _pokes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as reply:
        return int(reply.read())


def _cpu_s(stack: AirflowStack) -> float:
    """Return what the stack's processes used, those that have ended and were waited for included."""
    total = 0.0
    for name in COMPONENTS:
        pid = stack.pid(name)
        assert pid is not None
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
    return total
