"""From a verdict, an answer or a deadline to the rollback request, on a real Airflow with PostgreSQL.

Many rollouts are brought to the point where each waits for what is measured; then they are let go one after
another, so that they do not compete for the machine's cores.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench import marks
from bench.figure import Figure
from demo.router import Change
from demo.waiting import DemoError, wait_for
from rollback_budget.common.commander_response import Choice
from rollback_budget.common.xcom import ANSWER_KEY, DEADLINE_KEY, ReviewAnswer
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER
from tests.stack.airflow_harness import BASELINE, WATCH, Harness, Scenario
from tests.support.postgres import find_binaries, running_postgres

TITLE = "decision: to the rollback request, on a real Airflow with PostgreSQL"
RUNS = 20
#: An event this soon after a deferral is held back, which is not what is measured.
PARKED_S = HOLD_AFTER_DEFER.total_seconds() + 1
#: Deadlines come one after another, the first one when every review is open.
FIRST_DEADLINE_S, NEXT_DEADLINE_S = 50, 4
NEVER_S = 600
BUDGETS = {
    "safety": {"high_severity_incidents_increase": 0, "action": "immediate_rollback"},
    "escalation": {"human_handoff_above": 0.5, "max_duration": "2s", "method": "threshold"},
}


class Kind(Enum):
    """What a rollback request follows; the value says it in words."""

    TIER_A = "tier A: verdict to rollback request"
    ANSWER = "tier B: answer to rollback request"
    SILENCE = "tier B: silence, deadline to rollback request"


@dataclass(frozen=True)
class Passage:
    """One way to a rollback request, in seconds.

    :param ours: in the code of our tasks and triggers; the rest is Airflow's: triggerer, scheduler,
        executor, starting processes and parsing DAGs.
    """

    total: float
    ours: float

    @property
    def airflow(self) -> float:
        """What is not ours."""
        return self.total - self.ours


def measure(runs: int = RUNS) -> list[Figure]:
    """Roll out ``runs`` services three times each."""
    figures = []
    with running_rollouts(runs) as services:
        for kind in Kind:
            psutil.cpu_percent()
            passages = services.measure(kind)
            busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            for part in ("total", "ours", "airflow"):
                seconds = [getattr(passage, part) for passage in passages]
                what = kind.value if part == "total" else f"  {part}"
                figures += [
                    Figure(f"{what}, median of {runs}", median(seconds), "s"),
                    Figure(f"{what}, worst of {runs}", max(seconds), "s"),
                ]
            figures.append(Figure("  cores in use meanwhile, by everything on the machine", busy, "cores"))
    return figures


@contextmanager
def running_rollouts(count: int) -> Iterator[ParallelRollouts]:
    """Start PostgreSQL, Airflow on it, the ledger in it, and a simulated service for each rollout."""
    binaries = find_binaries()
    if binaries is None:
        raise DemoError(
            "no PostgreSQL server found under /usr/lib/postgresql; install the package postgresql"
        )
    with tempfile.TemporaryDirectory() as folder, running_postgres(binaries) as cluster:
        home = Path(folder) / "harness"
        plugins = home / "airflow" / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(marks.__file__, plugins)
        file = home / "marks.jsonl"
        harness = Harness(
            home,
            [_scenario(number) for number in range(count)],
            database_url=cluster.database().replace("postgresql:", "postgresql+psycopg2:"),
            ledger_url=cluster.database(),
            environment={"BENCH_MARKS": str(file)},
            rate=10,
        )
        try:
            harness.start()
            # A service ships what was rolled back there before: debt of that breach would close the launch
            # gate.
            harness.stack.api.call("PATCH", "/dags/eval_debt", {"is_paused": True})
            yield ParallelRollouts(harness, file)
        finally:
            harness.stop()


def _scenario(number: int) -> Scenario:
    name = f"parallel_{number}"
    target = {"conn_id": f"router_{name}", "deadline": "30s", "request_timeout": "10s"}
    watch = {**WATCH, "settle": "1s"}
    return Scenario(name, NEVER_S, BUDGETS, further={"target": target, "watch": watch})


class ParallelRollouts:
    """Services that are rolled out and rolled back again and again.

    :param file: where the marks are.
    """

    def __init__(self, harness: Harness, file: Path) -> None:
        self._harness = harness
        self._file = file

    def measure(self, kind: Kind) -> list[Passage]:
        """Roll out every rollout once and return how the rollbacks came about."""
        services = list(self._harness.scenarios)
        self._ship(kind, services)
        if kind is not Kind.TIER_A:
            self._open_reviews(services)
        if kind is Kind.ANSWER:
            time.sleep(PARKED_S)
        passages = []
        for service in services:
            let_go = self._let_go(kind, service)
            requested = self._wait_for_request(service)
            passages.append(self._passage(kind, service, let_go, requested))
        for service in services:
            self._harness.end(service)
        return passages

    def _ship(self, kind: Kind, services: list[str]) -> None:
        """Bring every rollout to a watch that waits."""
        for number, service in enumerate(services):
            within = FIRST_DEADLINE_S + number * NEXT_DEADLINE_S if kind is Kind.SILENCE else NEVER_S
            decision = {"tier_b_breach": f"incident_commander_decision_within_{within}s"}
            self._harness.worsen(service, incident=0.0, handoff=0.05)
            self._harness.edit_budget(service, decision=decision)
            self._harness.trigger(service)
        for service in services:
            self._harness.reach(service, "round_1.watch", "deferred", timeout_s=180)
        time.sleep(PARKED_S)

    def _open_reviews(self, services: list[str]) -> None:
        """Bring every rollout to a review that waits."""
        for service in services:
            self._harness.worsen(service, handoff=1.0)
        for service in services:
            self._harness.reach(service, "round_1.review", "deferred", timeout_s=180)

    def _let_go(self, kind: Kind, service: str) -> float:
        """Make happen what is waited for; return when that was sent."""
        now = time.time()
        if kind is Kind.TIER_A:
            self._harness.worsen(service, incident=1.0)
        if kind is Kind.ANSWER:
            self._harness.answer(service, Choice.ROLL_BACK, "no more of this").raise_for_status()
        return now

    def _wait_for_request(self, service: str) -> float:
        """Return when the service was asked to give the baseline everything."""
        shipped = self._harness.rollout(service).shipped_at
        assert shipped is not None

        def request() -> Change | None:
            changes = self._harness.services[service].router.changes
            return next(
                (one for one in changes if one.at > shipped.timestamp() and one.weights[BASELINE] == 1), None
            )

        found = wait_for(request, f"the rollback of {service}", timeout_s=240, every_s=0.05)
        assert found is not None
        return found.at

    def _passage(self, kind: Kind, service: str, let_go: float, requested: float) -> Passage:
        began, ended = self._marks(service)
        ours = requested - began["rollback"]
        tasks, since = ["round_1.review"], let_go
        if kind is Kind.TIER_A:
            tasks, since = ["round_1.watch", "round_1.decide"], self._verdict_at(service)
        if kind is Kind.SILENCE:
            since = datetime.fromisoformat(self._xcom(service, "round_1.decide", DEADLINE_KEY)).timestamp()
            answer = ReviewAnswer.model_validate(self._xcom(service, "round_1.review", ANSWER_KEY))
            ours += answer.at.timestamp() - since
        ours += sum(ended[task] - began[task] for task in tasks)
        return Passage(requested - since, ours)

    def _marks(self, service: str) -> tuple[dict[str, float], dict[str, float]]:
        """Return when each task of the service's run last began, and when it succeeded."""
        key = self._harness.key(service)
        found: dict[str, dict[str, float]] = {"began": {}, "ended": {}}
        for line in self._file.read_text().splitlines():
            dag_id, run_id, task_id, what, at = json.loads(line)
            if (dag_id, run_id) == (key.dag_id, key.run_id):
                found[what][task_id] = at
        return found["began"], found["ended"]

    def _verdict_at(self, service: str) -> float:
        """Return when the trigger of the service's watch came to its verdict, from its log."""
        key = self._harness.key(service)
        folder = self._harness.stack.logs / "tasks" / f"dag_id={key.dag_id}" / f"run_id={key.run_id}"
        lines = [
            json.loads(line)
            for log in (folder / "task_id=round_1.watch").glob("*.trigger.*")
            for line in log.read_text().splitlines()
        ]
        [verdict] = [line for line in lines if line["event"].startswith("the verdict is ")]
        return datetime.fromisoformat(verdict["timestamp"]).timestamp()

    def _xcom(self, service: str, task_id: str, key: str) -> Any:
        rollout = self._harness.key(service)
        return self._harness.stack.api.xcom(rollout.dag_id, rollout.run_id, task_id, key)
