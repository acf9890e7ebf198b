"""One process with 500 watches that all breach in the same minute: does each rollback leave, once, in time?

The triggers are the real ones, and so are the Prometheus, the ledger and the control plane; Airflow's own
work in a triggerer is not in it. ``BENCH_ROLLOUTS`` sets another number of watches.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import create_engine, make_url, text

from bench.breaching import SCRAPE
from bench.control_plane import Stats
from bench.figure import Figure
from bench.fleet import environment, fleet_metrics, key_of, open_in
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.triggers.on_verdict import AT_ONCE
from tests.support.network import find_free_port, is_listening, wait_until
from tests.support.postgres import find_binaries, running_postgres

TITLE = "500 watches of one process that breach in the same minute, against a real Prometheus"
ROLLOUTS = 500
#: Of the watches, before anything breaches: all of them have caught up.
QUIET = timedelta(seconds=45)
#: The floor: a loop that knows what to do.
FLOOR_THREADS = 16
WITHIN_S, LOOP_S = 10.0, 0.2


@dataclass(frozen=True)
class Found:
    """What one run brought.

    :param noted: by the process that watched; see :func:`bench.breaching.run`.
    :param stats: of the control plane.
    :param connections: the most that the ledger's database had at once; None where it does not say.
    :param unrecorded: rollouts whose final decision, evaluation or request is not in the ledger.
    :param floor_s: how long the same requests take a plain loop.
    :param cores: in use between the breach and the end, by everything on the machine.
    """

    noted: Mapping[str, Any]
    stats: Stats
    connections: int | None
    unrecorded: int
    floor_s: float
    cores: float


def measure() -> list[Figure]:
    """Watch for a while, breach, and see what became of it."""
    rollouts = int(os.environ.get("BENCH_ROLLOUTS", ROLLOUTS))
    return figures(rollouts, breach(rollouts))


def figures(rollouts: int, found: Found) -> list[Figure]:
    """Return what is printed."""
    noted, writes = found.noted, found.stats["writes"]
    verdicts = {number: noted["verdicts"].get(str(key_of(number))) for number in range(rollouts)}
    known = [at for at in verdicts.values() if at is not None]
    first, requests = min(known, default=0.0), [at for each in writes.values() for at in each]
    after = [
        writes[str(number)][0] - at
        for number, at in verdicts.items()
        if at is not None and str(number) in writes
    ]
    once = sum(len(writes.get(str(number), [])) == 1 for number in range(rollouts))
    last = max(requests, default=0.0) - first
    accepted = sum(outcome == "accepted" for outcome in noted["outcomes"].values())
    ended = max(noted["acted"].values(), default=0.0) - first
    result = [
        Figure(f"watches without a verdict, of {rollouts}", rollouts - len(known), "", 0),
        Figure("first to last verdict", max(known, default=0.0) - first, "s"),
        Figure("first verdict to last request", last, "s"),
        Figure("each verdict to its request, median", median(after) if after else None, "s"),
        Figure("each verdict to its request, worst", max(after, default=None), "s", WITHIN_S),
        Figure("first verdict to the last trigger that is done", ended, "s"),
        Figure("rollouts not requested exactly once", rollouts - once, "", 0),
        Figure("events that do not say that the request was accepted", rollouts - accepted, "", 0),
        Figure("final decision, evaluation or request not in the ledger", found.unrecorded, "rollouts", 0),
        Figure("requests in flight at the target, most", found.stats["most_in_flight"], "", AT_ONCE),
        Figure("requests to the target in all, reads included", found.stats["requests"], ""),
    ]
    if found.connections is not None:
        # One for the sender, one that a watch or the look writer uses beside it.
        result.append(Figure("connections to the ledger, most", found.connections, "", 2 * AT_ONCE))
    return [
        *result,
        Figure("threads of the process, most", noted["threads"], ""),
        Figure(
            "event loop: longest at work without a pause", 1e3 * noted["at_work_worst_s"], "ms", 1e3 * LOOP_S
        ),
        Figure(
            "event loop: longest late, threads and other processes included",
            1e3 * noted["late_worst_s"],
            "ms",
        ),
        Figure(
            f"floor: the same requests by a loop of `requests`, {FLOOR_THREADS} threads", found.floor_s, "s"
        ),
        Figure("first verdict to last request, over the floor", last / found.floor_s, "×"),
        Figure("CPU of the process, from its start on", noted["cpu_s"], "s"),
        Figure("cores in use after the breach, by everything on the machine", found.cores, "cores"),
        Figure("peak memory of the process", noted["rss_mib"], "MiB"),
    ]


def breach(rollouts: int) -> Found:
    """Run the watches to their ends."""
    with tempfile.TemporaryDirectory() as folder, _ledger_url(Path(folder)) as ledger_url:
        home, ledger = Path(folder), Ledger(ledger_url)
        ledger.migrate()
        start = datetime.now(UTC).replace(microsecond=0)
        open_in(ledger, rollouts, start, start)
        breaches = datetime.now(UTC).replace(microsecond=0) + QUIET
        with (
            control_plane() as target_url,
            fleet_metrics(home / "prometheus", rollouts, start, start, SCRAPE, breaches) as url,
        ):
            file = home / "found.json"
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.breaching", str(rollouts)),
                    *(start.isoformat(), breaches.isoformat(), str(file)),
                ],
                env=environment(home, url, target_url)
                | {"AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN": ledger_url},
                stdout=subprocess.DEVNULL,
            )
            with _counting_connections(ledger_url) as connections:
                time.sleep(max((breaches - datetime.now(UTC)).total_seconds(), 0))
                psutil.cpu_percent()
                process.wait()
                cores = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            stats = _stats(target_url)
        with control_plane() as target_url:
            floor_s = floor(target_url, rollouts)
        return Found(
            noted=json.loads(file.read_text()),
            stats=stats,
            connections=max(connections, default=None),
            unrecorded=sum(not _is_recorded(ledger, number) for number in range(rollouts)),
            floor_s=floor_s,
            cores=cores,
        )


def floor(url: str, rollouts: int) -> float:
    """Return the seconds that reading and writing every rollout's traffic takes a plain loop."""
    import requests

    local = threading.local()

    def send(number: int) -> None:
        session = local.__dict__.setdefault("session", requests.Session())
        session.trust_env = False
        session.get(f"{url}/traffic/{number}", timeout=10).raise_for_status()
        body = {"weights": {f"release-{number:05}": 0.0, f"baseline-{number:05}": 1.0}}
        session.put(f"{url}/traffic/{number}", json=body, timeout=10).raise_for_status()

    begun = time.monotonic()
    with ThreadPoolExecutor(FLOOR_THREADS) as pool:
        list(pool.map(send, range(rollouts)))
    return time.monotonic() - begun


@contextmanager
def control_plane() -> Iterator[str]:
    """Run a control plane in a process of its own; yield its URL."""
    port = find_free_port()
    server = subprocess.Popen([sys.executable, "-m", "bench.control_plane", str(port)])
    try:
        wait_until(lambda: is_listening(port), what="the control plane")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@contextmanager
def _ledger_url(home: Path) -> Iterator[str]:
    """Yield an empty database of PostgreSQL where it is installed, else of SQLite."""
    binaries = find_binaries()
    if binaries is None:
        yield f"sqlite:///{home / 'rollback_budget.db'}"
        return
    with running_postgres(binaries) as cluster:
        yield cluster.database()


@contextmanager
def _counting_connections(url: str) -> Iterator[list[int]]:
    """Yield how many connections there were from moment to moment; stays empty for SQLite."""
    counts: list[int] = []
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        yield counts
        return
    over = threading.Event()

    def count() -> None:
        engine = create_engine(address.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
        query = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        with engine.connect() as connection:
            while not over.wait(0.02):
                counts.append(connection.scalar(query) or 0)
        engine.dispose()

    counter = threading.Thread(target=count, name="counter of connections")
    counter.start()
    try:
        yield counts
    finally:
        over.set()
        counter.join()


def _stats(url: str) -> Stats:
    with urllib.request.urlopen(f"{url}/stats", timeout=10) as reply:
        stats: Stats = json.loads(reply.read())
        return stats


def _is_recorded(ledger: Ledger, number: int) -> bool:
    key = key_of(number)
    final, record = ledger.final_decisions.of(key), ledger.rollbacks.of(key)
    return (
        final is not None
        and final.decision is FinalDecision.ROLLED_BACK
        and len(ledger.evaluations.of(key)) == 1
        and record is not None
        and record.requested_at is not None
    )
