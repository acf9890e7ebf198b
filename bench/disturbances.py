"""What is full, dead or away while a rollback is due; put on a real Airflow, and taken away again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from enum import Enum

import psutil  # type: ignore[import-untyped]

from demo.waiting import wait_for
from rollback_budget.common.pool import SLOTS
from tests.stack.airflow_harness import Harness

PARALLELISM = 8
#: Airflow's own default for the default pool.
DEFAULT_SLOTS = 128
AWAY_S = 60.0
#: What a dead scheduler or worker leaves behind is found after this time, not after Airflow's 5 to 10 min.
#: That changes when the tasks behind a rollback follow, and not when the rollback is requested.
RECOVERY = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
}
ENVIRONMENT = {"AIRFLOW__CORE__PARALLELISM": str(PARALLELISM), **RECOVERY}

#: Another team's tasks: each holds what it has until the file that its run names is there.
OTHER_DAGS = f"""
import os
import time

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG


def hold(dag_run):
    while not os.path.exists(dag_run.conf["until"]):
        time.sleep(0.2)


with DAG("fill_pools", schedule=None):
    PythonOperator(task_id="default", python_callable=hold, pool_slots={DEFAULT_SLOTS})
    PythonOperator(task_id="ours", python_callable=hold, pool="rollback_budget", pool_slots={SLOTS})

with DAG("fill_executor", schedule=None, max_active_tasks={PARALLELISM}):
    for number in range({PARALLELISM}):
        PythonOperator(task_id=f"hold_{{number}}", python_callable=hold)
"""


class Disturbance(Enum):
    """What is wrong; the value says it in words."""

    NONE = "undisturbed"
    POOLS = "default pool and the rollouts' pool full"
    PARALLELISM = "[core] parallelism exhausted"
    SCHEDULER = "scheduler killed (-9), LocalExecutor's workers with it"
    WORKERS = "every worker killed (-9) as soon as it is seen"
    API = f"API server killed (-9) for {AWAY_S:g} s"


def disturbed(harness: Harness, disturbance: Disturbance) -> AbstractContextManager[object]:
    """Put it on; at the end of the ``with`` it is taken away, and Airflow is healthy again."""
    ways: Mapping[Disturbance, Callable[[Harness], AbstractContextManager[object]]] = {
        Disturbance.NONE: lambda _harness: nullcontext(),
        Disturbance.POOLS: lambda harness: filled(harness, "fill_pools"),
        Disturbance.PARALLELISM: lambda harness: filled(harness, "fill_executor"),
        Disturbance.SCHEDULER: lambda harness: _dead(harness, "scheduler"),
        Disturbance.WORKERS: _without_workers,
        Disturbance.API: lambda harness: _dead(harness, "api-server", AWAY_S),
    }
    return ways[disturbance](harness)


@contextmanager
def filled(harness: Harness, dag_id: str) -> Iterator[Callable[[], None]]:
    """Let the tasks of another DAG hold every slot; yield what ends them, which the end does, too."""
    api = harness.stack.api
    until = harness.folder / f"{dag_id}.{time.time():.0f}"
    run = api.trigger(dag_id, {"until": str(until)})
    try:
        wait_for(
            lambda: set(api.task_states(dag_id, run).values()) == {"running"},
            f"every task of {dag_id} to run",
            timeout_s=180,
        )
        yield until.touch
    finally:
        until.touch()


@contextmanager
def _dead(harness: Harness, component: str, at_least_s: float = 0.0) -> Iterator[None]:
    harness.stack.kill(component)
    killed = time.monotonic()
    try:
        yield
        time.sleep(max(killed + at_least_s - time.monotonic(), 0))
    finally:
        harness.stack.start(component)
    harness.stack.wait_until_healthy()


@contextmanager
def _without_workers(harness: Harness) -> Iterator[None]:
    """Kill workers, and those that the executor starts instead, with the tasks that they run.

    One that is killed while it waits for work may leave the executor's queue locked for ever; so the
    scheduler, and the executor in it, begin anew afterwards.
    """
    pid = harness.stack.pid("scheduler")
    assert pid is not None
    scheduler, over = psutil.Process(pid), threading.Event()

    def kill_them() -> None:
        while not over.wait(0.1):
            with suppress(psutil.NoSuchProcess):
                for process in scheduler.children(recursive=True):
                    _kill_worker(process)

    killer = threading.Thread(target=kill_them, name="killer of workers")
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
        harness.stack.kill("scheduler")
        harness.stack.start("scheduler")
    harness.stack.wait_until_healthy()


def _kill_worker(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        if "airflow worker" in " ".join(process.cmdline()):
            os.kill(process.pid, 9)
