"""What a watch, and the sensors that one would take instead, cost a real Airflow with all of its components.

One after the other is started on the same Airflow and goes on; each is held against what was before it.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean

import psutil  # type: ignore[import-untyped]

from bench.alternatives import canned
from bench.exporter import versions_of
from bench.fleet import CONN_ID, fleet_metrics
from demo.stack import COMPONENTS, AirflowStack

TRIGGERER = ("triggerer",)
POLL = timedelta(milliseconds=250)
WATCHES, DEFERRED, RESCHEDULED = 20, 10, 4
DEFERRED_INTERVAL_S, RESCHEDULED_INTERVAL_S = 0.5, 10
LONG_S, SHORT_S, SETTLE_S, SAMPLE_S = 60.0, 30.0, 15.0, 4.0
DAGS = f"""
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG
from rollback_budget import RollbackBudgetSensor

with DAG("watches", schedule=None):
    for number in range({WATCHES}):
        RollbackBudgetSensor(task_id=f"watch_{{number}}", budget=f"BUDGETS/{{number}}.yaml", deferrable=True)

with DAG("deferred", schedule=None):
    for number in range({DEFERRED}):
        HttpSensor(task_id=f"sense_{{number}}", http_conn_id="deferred", endpoint="missing",
                   deferrable=True, poke_interval={DEFERRED_INTERVAL_S})

with DAG("rescheduled", schedule=None):
    for number in range({RESCHEDULED}):
        HttpSensor(task_id=f"sense_{{number}}", http_conn_id="rescheduled", endpoint="missing",
                   mode="reschedule", poke_interval={RESCHEDULED_INTERVAL_S})
"""


@dataclass(frozen=True)
class InAirflow:
    """CPU seconds of one poll, and how many polls were counted; memory in bytes.

    :param watch: of a watch, in the triggerer.
    :param deferred: of an ``HttpSensor`` that is deferred, in the triggerer.
    :param rescheduled: of an ``HttpSensor`` in reschedule mode, in all of Airflow.
    :param rescheduled_memory: mean of one such sensor, its processes' shares of what they share included.
    """

    watch: float
    watch_polls: int
    deferred: float
    deferred_polls: int
    rescheduled: float
    rescheduled_polls: int
    rescheduled_memory: float


def measure_in_airflow(home: Path, answer: Path) -> InAirflow:
    """Run all three for a while; what the HttpSensors get is ``answer``."""
    home.mkdir(parents=True)
    dags, budgets = home / "dags", home / "budgets"
    dags.mkdir()
    budgets.mkdir()
    (dags / "all.py").write_text(DAGS.replace("BUDGETS", str(budgets)))
    for number in range(WATCHES):
        (budgets / f"{number}.yaml").write_text(json.dumps(_budget(number)))
    now = datetime.now(UTC)
    stack = AirflowStack(home / "airflow", dags)
    with (
        fleet_metrics(home / "prometheus", WATCHES, now, now, scrape=POLL) as url,
        canned(answer) as deferred_port,
        canned(answer) as rescheduled_port,
    ):
        stack.add_connection(CONN_ID, url)
        stack.add_connection("deferred", f"http://127.0.0.1:{deferred_port}")
        stack.add_connection("rescheduled", f"http://127.0.0.1:{rescheduled_port}")
        with stack:
            stack.wait_for_dags(["watches", "deferred", "rescheduled"])
            return _measure(stack, url, deferred_port, rescheduled_port)


def _measure(stack: AirflowStack, url: str, deferred_port: int, rescheduled_port: int) -> InAirflow:
    time.sleep(SETTLE_S)
    idle = _share(stack, TRIGGERER, SHORT_S)
    _start(stack, "watches", WATCHES)
    asked, begun = _requests(url), time.monotonic()
    watching = _share(stack, TRIGGERER, SHORT_S)
    rounds = (time.monotonic() - begun) / POLL.total_seconds()
    # Watches that poll together are one request; fewer would mean that they fall behind.
    assert _requests(url) - asked >= 0.9 * rounds, (_requests(url) - asked, rounds)
    polls = round(rounds * WATCHES)

    _start(stack, "deferred", DEFERRED)
    before = _asked(deferred_port)
    sensing = _share(stack, TRIGGERER, SHORT_S)
    pokes = _asked(deferred_port) - before

    both, memory = _share(stack, COMPONENTS, SHORT_S), _memory(stack)
    stack.api.trigger("rescheduled")
    time.sleep(SETTLE_S)
    before, memories = _asked(rescheduled_port), []
    spent, begun = _cpu_s(stack, COMPONENTS), time.monotonic()
    while time.monotonic() < begun + LONG_S:
        memories.append(_memory(stack))
        time.sleep(SAMPLE_S)
    spent = _cpu_s(stack, COMPONENTS) - spent - both * (time.monotonic() - begun)
    rescheduled = _asked(rescheduled_port) - before
    return InAirflow(
        watch=(watching - idle) * SHORT_S / polls,
        watch_polls=polls,
        deferred=(sensing - watching) * SHORT_S / pokes,
        deferred_polls=pokes,
        rescheduled=spent / rescheduled,
        rescheduled_polls=rescheduled,
        rescheduled_memory=(mean(memories) - memory) / RESCHEDULED,
    )


def _start(stack: AirflowStack, dag: str, tasks: int) -> None:
    """Start a DAG and wait until all of its tasks are deferred, and a while longer."""
    run = stack.api.trigger(dag)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        states = stack.api.task_states(dag, run)
        if list(states.values()).count("deferred") == tasks:
            time.sleep(SETTLE_S)
            return
        time.sleep(1)
    raise RuntimeError(f"{dag}: not all of {tasks} tasks are deferred: {states}")


def _share(stack: AirflowStack, components: Sequence[str], seconds: float) -> float:
    """Return how much of a core these components use over a while."""
    spent, begun = _cpu_s(stack, components), time.monotonic()
    time.sleep(seconds)
    return (_cpu_s(stack, components) - spent) / (time.monotonic() - begun)


def _budget(number: int) -> dict[str, object]:
    release, baseline = versions_of(number)
    share = {"kind": "proportion"}
    return {
        "release": release,
        "baseline": baseline,
        "window": "24h",
        "rollback_budget": {
            "quality": {"task_success_delta_pct": -2.0, "max_duration_min": 20},
            "safety": {"high_severity_incidents_increase": 0, "action": "immediate_rollback"},
            "latency": {"p95_delta_pct": 15, "max_duration_min": 30},
            "escalation": {"human_handoff_delta_pct": 8, "max_duration_min": 20},
        },
        "watch": {"poll": "250ms", "step": "250ms", "settle": "750ms"},
        "source": {"type": "prometheus", "conn_id": CONN_ID, "scrape_interval": "250ms"},
        "metrics": {
            "task_success": share
            | {"query": {"events": "llm_successes_total", "total": "llm_requests_total"}},
            "human_handoff": share
            | {"query": {"events": "llm_handoffs_total", "total": "llm_requests_total"}},
            "high_severity_incidents": {
                "kind": "count",
                "query": {"events": "llm_incidents_total", "total": "llm_requests_total"},
            },
            "p95": {"kind": "gauge", "query": {"gauge": "llm_p95_seconds"}},
        },
    }


def _asked(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as reply:
        return int(reply.read())


def _requests(url: str) -> int:
    """Return how many range queries a Prometheus has answered."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        page = reply.read().decode()
    found = re.findall(r'^prometheus_http_requests_total\{.*query_range".*\} (\S+)$', page, re.MULTILINE)
    return sum(int(float(count)) for count in found)


def _cpu_s(stack: AirflowStack, components: Sequence[str]) -> float:
    """Return what processes used, those that have ended and were waited for included."""
    total = 0.0
    for process in _processes(stack, components):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory(stack: AirflowStack) -> int:
    """Return the bytes of all processes, what they share divided among them."""
    total = 0
    for process in _processes(stack, COMPONENTS):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def _processes(stack: AirflowStack, components: Sequence[str]) -> Iterator[psutil.Process]:
    for name in components:
        pid = stack.pid(name)
        assert pid is not None
        root = psutil.Process(pid)
        yield from (root, *root.children(recursive=True))
