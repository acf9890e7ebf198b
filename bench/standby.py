"""From the death of Airflow, in the very moment of a breach, to the rollback that a standby requests.

Processes are real: the watch as a triggerer holds it, killed with ``kill -9``; the command ``standby``, which
ran beside it all the while; the ledger on PostgreSQL. There is nothing to compare it with: without a standby
nothing happens until Airflow is back. ``BENCH_RUNS`` sets how often it is done.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.figure import Figure
from demo.waiting import DemoError
from tests.support.network import wait_until
from tests.support.postgres import find_binaries, running_postgres
from tests.support.standby import watched_service

TITLE = "standby: Airflow killed in the moment of a breach, to the request of the rollback"
RUNS = 5
AFTER_S, SETTLE_S, POLL_S = 10, 1, 5
#: The time that a watch must give no sign of life, and two polls.
LIMIT_S = AFTER_S + SETTLE_S + 2 * POLL_S


def measure() -> list[Figure]:
    """Kill Airflow again and again."""
    runs = int(os.environ.get("BENCH_RUNS", RUNS))
    binaries = find_binaries()
    if binaries is None:
        raise DemoError("no PostgreSQL server found; on Debian: apt-get install postgresql")
    with running_postgres(binaries) as cluster:
        seconds = [_kill_airflow(cluster.database()) for _ in range(runs)]
    of = f"--after {AFTER_S}s, settle {SETTLE_S}s, poll {POLL_S}s"
    return [
        Figure(f"{of}: median of {runs}", median(seconds), "s", LIMIT_S),
        Figure(f"{of}: worst of {runs}", max(seconds), "s", LIMIT_S),
    ]


def _kill_airflow(ledger_url: str) -> float:
    """Return the seconds until the control plane had the request."""
    with (
        tempfile.TemporaryDirectory(prefix="rollback-budget-bench-") as folder,
        watched_service(Path(folder), ledger_url, poll_s=POLL_S) as rollout,
    ):
        standby = rollout.standby(after=f"{AFTER_S}s")
        airflow = rollout.airflow()
        rollout.wait_for_looks()
        wait_until(lambda: standby.said("begins"), what="the standby")
        airflow.kill()
        rollout.incident()
        killed_at = time.monotonic()
        wait_until(lambda: rollout.rollbacks() == 1, within_s=120, what="the request")
        return time.monotonic() - killed_at
