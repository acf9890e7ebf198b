"""A standby in a process of its own, and a simulated service with a rollout for it to watch over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.service import SimulatedService
from demo.traffic import Behaviour
from rollback_budget.budget_file import load_budget
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.rollback_terms import RollbackTerms, rollback_terms
from rollback_budget.watch.watch_plan import WatchPlan
from tests.support.fault_proxy import FaultProxy, running_fault_proxy
from tests.support.inbox import Inbox, running_webhook
from tests.support.network import wait_until
from tests.support.triggers import LIBFAKETIME, TriggerProcess

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE, BASELINE = "model-v42", "model-v41"
KEY = RolloutKey("rollout_model_v42", "manual__1")
SHARES = {RELEASE: 0.5, BASELINE: 0.5}
COMMANDER = "alice"


class StandbyProcess:
    """A running ``rollback-budget standby``.

    :param after: its option.
    :param clock_off_s: how far its clock is off.
    :param lacks: variables that it does not see.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        environment: Mapping[str, str],
        after: str = "2s",
        clock_off_s: float | None = None,
        lacks: Collection[str] = (),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", "rollback_budget.cli.main", "standby"]
        self._arguments = ["--after", after, "--name", name]
        self._environment = {
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(folder / f"{name}.home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Nothing of it may ask Airflow's database.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/nothing",
            "PYTHONUNBUFFERED": "1",
            **{variable: value for variable, value in environment.items() if variable not in lacks},
        }
        if clock_off_s is not None:
            self._environment |= {
                "LD_PRELOAD": str(LIBFAKETIME),
                "FAKETIME": f"{clock_off_s:+g}s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *self._arguments],
                cwd=REPOSITORY,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def freeze(self) -> None:
        """Let it stand still, as a host that is suspended does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """End it as systemd does; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def said(self, text: str) -> bool:
        return text in self.log.read_text()


@dataclass
class WatchedService:
    """A simulated service under a rollout that has shipped, with its ledger, and processes that watch it."""

    folder: Path
    stack: ExitStack
    service: SimulatedService
    proxy: FaultProxy
    inbox: Inbox
    ledger: Ledger
    spec: RolloutSpec
    shipped_at: datetime
    terms: RollbackTerms | None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> WatchPlan:
        return WatchPlan(
            spec=self.spec,
            window_start=self.shipped_at,
            window_end=self.shipped_at + self.spec.window,
            rollout=KEY,
            terms=self.terms,
        )

    def airflow(self, name: str = "airflow") -> TriggerProcess:
        """Start the watch as Airflow's triggerer holds it; it is on its way when this returns."""
        process = TriggerProcess(self.folder, name, self.environment)
        self.stack.callback(process.stop)
        process.start()
        process.watch({name: self.plan})
        return process

    def standby(self, name: str = "standby", **options: Any) -> StandbyProcess:
        process = StandbyProcess(self.folder, name, self.environment, **options)
        self.stack.callback(process.stop)
        process.start()
        return process

    def wait_for_looks(self, *, by_standby: bool = False) -> None:
        """Wait until a watch has left a look in the ledger."""

        def found() -> bool:
            if by_standby:
                return bool(self.ledger.looks.standby_periods(KEY))
            signs = self.ledger.signs_of_life.of(KEY)
            return signs is not None and signs.looked_at is not None

        wait_until(found, within_s=60, what="a look in the ledger")

    def holder(self) -> str | None:
        """The name of the standby that holds the lease."""
        lease = self.ledger.watch_leases.of(KEY)
        return lease.name if lease is not None and lease.is_valid else None

    def wait_for_holder(self, within_s: float = 60) -> str:
        found = wait_until(self.holder, within_s=within_s, what="a standby taking over")
        assert found is not None
        return found

    def fail(self, **behaviour: float) -> None:
        """Let the release behave badly from now on."""
        self.service.traffic.steer(RELEASE, Behaviour(**behaviour))

    def incident(self) -> None:
        """A tier A breach."""
        self.fail(incident=0.5)

    def slide(self) -> None:
        """A tier B breach."""
        self.fail(handoff=0.9)

    def wait_for_rollback(self) -> None:
        """Wait until a rollback is verified and recorded."""

        def settled() -> bool:
            record = self.ledger.rollbacks.of(KEY)
            return record is not None and record.outcome is not None

        # The proof has a deadline of 30 s, and is tried again on a machine that is busy.
        wait_until(settled, within_s=120, what="a verified rollback")

    def rollbacks(self) -> int:
        """How many changes of traffic the router has accepted since the release shipped."""
        return len(self.service.router.changes) - 1


BUDGET = """\
extends: {defaults}
release: {release}
baseline: {baseline}
window: 10m
incident_commander: {{id: {commander}, name: {commander}}}
rollback_budget:
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  escalation:
    human_handoff_delta_pct: +80
    max_duration: {max_duration}
    method: threshold
watch: {{poll: {poll_s}s, step: {poll_s}s, settle: 1s, max_gap: {max_gap}, blind_after: 2m}}
decision:
  tier_a_breach: auto_rollback
  tier_b_breach: {{action: incident_commander_decision, within: {within}, max_overrides: 1}}
source: {{conn_id: requests}}
target: {{conn_id: router, deadline: 30s}}
notify: {{notifier: http, conn_id: inbox}}
"""


@contextmanager
def watched_service(
    folder: Path,
    ledger_url: str,
    *,
    within: str = "8s",
    shipped_s: float = 0,
    poll_s: int = 1,
    more: str = "",
) -> Iterator[WatchedService]:
    """Run a service whose release has shipped to half of its traffic.

    :param within: the commander's deadline.
    :param shipped_s: how long ago the release shipped.
    :param poll_s: how often it is looked at.
    :param more: further lines of the budget.
    """
    database = folder / "requests.db"
    behaviours = {BASELINE: Behaviour(), RELEASE: Behaviour()}
    ledger = Ledger(ledger_url)
    ledger.migrate()
    budget = folder / "model-v42.yaml"
    budget.write_text(
        BUDGET.format(
            defaults=REPOSITORY / "budgets" / "defaults.yaml",
            release=RELEASE,
            baseline=BASELINE,
            commander=COMMANDER,
            within=within,
            poll_s=poll_s,
            max_duration=f"{3 * poll_s}s",
            max_gap=f"{10 * poll_s}s",
        )
        + more
    )
    spec = load_budget(budget)
    with ExitStack() as stack:
        service = stack.enter_context(SimulatedService(behaviours, database=database, rate=60))
        proxy = stack.enter_context(running_fault_proxy(int(service.url.rpartition(":")[2])))
        inbox = stack.enter_context(running_webhook())
        service.router.change(SHARES, changed_by="ship")
        shipped_at = datetime.now(UTC) - timedelta(seconds=shipped_s)
        terms = rollback_terms(spec, SHARES)
        ledger.rollouts.open(KEY, spec, shipped_at)
        ledger.rollouts.record_shipped(KEY, shipped_at, shipped_at + spec.window, terms)
        yield WatchedService(
            folder,
            stack,
            service,
            proxy,
            inbox,
            ledger,
            spec,
            shipped_at,
            terms,
            {
                "ROLLBACK_BUDGET_LEDGER": ledger_url,
                "AIRFLOW_CONN_REQUESTS": json.dumps({"conn_type": "sqlite", "host": str(database)}),
                "AIRFLOW_CONN_ROUTER": proxy.url,
                "AIRFLOW_CONN_INBOX": f"http://127.0.0.1:{inbox.port}",
            },
        )
