"""From a verdict, an answer or a deadline to the rollback request, on a real Airflow with PostgreSQL.

Many rollouts are brought to the point where each waits for what is measured; a part of Airflow is filled or
killed; then they are let go one after another, so that they do not compete for the machine's cores. When the
part is back, each of them must end verified, and recorded once. ``BENCH_RUNS`` sets how many rollouts there
are; ``BENCH_DISTURBANCES`` and ``BENCH_KINDS`` (names of :class:`Disturbance` and of :class:`Kind`, with
commas between) choose some of the table.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

from bench import team_rollback
from bench.disturbances import ENVIRONMENT, OTHER_DAGS, Disturbance, disturbed, filled
from bench.figure import Figure
from bench.waiting_rollouts import NEVER_S, PARKED_S, Kind, WaitingRollouts
from demo.waiting import DemoError
from tests.stack.airflow_harness import WATCH, Harness, Scenario
from tests.support.postgres import find_binaries, running_postgres

TITLE = "decision: to the rollback request, on a real Airflow with PostgreSQL"
RUNS = 20
#: For so long the tasks of another DAG go on holding every slot when a team's rollbacks are let go.
HELD_S = 30.0
#: Often enough for a bench; by default it is a minute. Polled every second, the watches of so many rollouts
#: would have one of this machine's cores for themselves.
POLL = "5s"
#: Median and worst, in seconds.
LIMITS = {Kind.TIER_A: (0.5, 2.0), Kind.ANSWER: (1.0, 3.0), Kind.SILENCE: (1.0, 3.0)}
BUDGETS = {
    "safety": {"high_severity_incidents_increase": 0, "action": "immediate_rollback"},
    "escalation": {"human_handoff_above": 0.5, "max_duration": "2s", "method": "threshold"},
}

T = TypeVar("T", bound=Enum)


def measure(runs: int | None = None) -> list[Figure]:
    """Let ``runs`` rollouts go for each of what lets them go and each disturbance."""
    runs = runs or int(os.environ.get("BENCH_RUNS", RUNS))
    disturbances, kinds = _chosen(Disturbance, "BENCH_DISTURBANCES"), _chosen(Kind, "BENCH_KINDS")
    with running_airflow(runs) as harness:
        ours = [name for name in harness.scenarios if not name.startswith(team_rollback.PREFIX)]
        theirs = [name for name in harness.scenarios if name.startswith(team_rollback.PREFIX)]
        cells = [(kind, disturbance) for kind in kinds for disturbance in disturbances]
        figures, medians = _ours(WaitingRollouts(harness, ours), harness, cells, runs)
        if medians:
            figures += _theirs(WaitingRollouts(harness, theirs), harness, medians)
        return figures


def _chosen(values: type[T], variable: str) -> list[T]:
    names = os.environ.get(variable)
    return [values[name] for name in names.split(",")] if names else list(values)


def _ours(
    rollouts: WaitingRollouts, harness: Harness, cells: Sequence[tuple[Kind, Disturbance]], runs: int
) -> tuple[list[Figure], dict[Disturbance, float]]:
    """Return the figures, and the median from a tier A verdict by disturbance."""
    figures: list[Figure] = []
    problems: list[str] = []
    medians: dict[Disturbance, float] = {}
    psutil.cpu_percent()
    for kind, disturbance in cells:
        what = f"{kind.value}: {disturbance.value}"
        if kind is Kind.ANSWER and disturbance is Disturbance.API:
            figures.append(Figure(f"{what}: none, since Airflow takes answers by its API alone", None, ""))
            continue
        _say(f"{what}: shipping")
        rollouts.ship(kind)
        with disturbed(harness, disturbance):
            _say(f"{what}: letting go")
            seconds = rollouts.let_go(kind, tasks_run=disturbance is Disturbance.NONE)
        _say(f"{what}: {', '.join(f'{one:.2f}' for one in seconds)}; waiting for the ends")
        found = rollouts.end()
        problems += [f"{what}: {one}" for one in found]
        for one in found:
            _say(one)
        most, worst = LIMITS[kind]
        figures += [
            Figure(f"{what}, median of {runs}", median(seconds), "s", most),
            Figure(f"{what}, worst of {runs}", max(seconds), "s", worst),
        ]
        if kind is Kind.TIER_A:
            medians[disturbance] = median(seconds)
    busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
    figures += [
        Figure("not rolled back, verified and recorded exactly once afterwards", len(problems), "", 0),
        Figure("cores in use, by everything on the machine", busy, "cores"),
    ]
    return figures, medians


def _theirs(rollouts: WaitingRollouts, harness: Harness, ours: dict[Disturbance, float]) -> list[Figure]:
    """Measure a team's own rollback: a task behind the sensor."""
    _say("a task behind the sensor, undisturbed")
    rollouts.ship(Kind.TIER_A)
    time.sleep(PARKED_S)
    idle = rollouts.let_go(Kind.TIER_A, tasks_run=True)
    problems = rollouts.end()
    _say(f"a task behind the sensor, {Disturbance.PARALLELISM.value}")
    rollouts.ship(Kind.TIER_A)
    time.sleep(PARKED_S)
    with filled(harness, "fill_executor") as end_them:
        timer = threading.Timer(HELD_S, end_them)
        timer.start()
        full = rollouts.let_go_at_once()
        timer.join()
    for problem in [*problems, *rollouts.end()]:
        _say(problem)
    name, held = "a task behind the sensor instead, tier A", f"exhausted for {HELD_S:g} s more"
    figures = [
        Figure(f"{name}: undisturbed, median of {len(idle)}", median(idle), "s"),
        Figure(f"{name}: parallelism {held}, median of {len(full)}", median(full), "s"),
    ]
    pairs = ((Disturbance.NONE, idle, "undisturbed"), (Disturbance.PARALLELISM, full, f"parallelism {held}"))
    return figures + [
        Figure(f"{name}, over ours: {said}", median(seconds) / ours[disturbance], "×")
        for disturbance, seconds, said in pairs
        if disturbance in ours
    ]


@contextmanager
def running_airflow(runs: int) -> Iterator[Harness]:
    """Start PostgreSQL, Airflow on it, the ledger in it, and a simulated service for each rollout."""
    binaries = find_binaries()
    if binaries is None:
        raise DemoError(
            "no PostgreSQL server found under /usr/lib/postgresql; install the package postgresql"
        )
    theirs = max(1, runs // 4)
    scenarios = [_scenario(Scenario, f"parallel_{number}") for number in range(runs)]
    scenarios += [
        _scenario(team_rollback.TeamRollback, f"{team_rollback.PREFIX}{number}") for number in range(theirs)
    ]
    with tempfile.TemporaryDirectory() as folder, running_postgres(binaries) as cluster:
        home = Path(folder) / "harness"
        home.mkdir()
        harness = Harness(
            home,
            scenarios,
            database_url=cluster.database().replace("postgresql:", "postgresql+psycopg2:"),
            ledger_url=cluster.database(),
            environment=ENVIRONMENT,
            rate=10,
            further_dags={"other_teams.py": OTHER_DAGS, "team_rollback.py": team_rollback.DAGS},
        )
        try:
            harness.start()
            harness.stack.wait_for_dags(["fill_pools", "fill_executor"])
            # A service ships what was rolled back there before: debt of that breach would close the launch
            # gate.
            harness.stack.api.call("PATCH", "/dags/eval_debt", {"is_paused": True})
            yield harness
        finally:
            harness.stop()


def _scenario(kind: type[Scenario], name: str) -> Scenario:
    target = {"conn_id": f"router_{name}", "deadline": "30s", "request_timeout": "10s"}
    watch = {**WATCH, "settle": "1s", "poll": POLL}
    return kind(name, NEVER_S, BUDGETS, further={"target": target, "watch": watch})


def _say(what: str) -> None:
    print(f"{time.strftime('%X')} {what}", file=sys.stderr, flush=True)
