"""Whatever happens between a watch and its data: its verdict is the one of `replay` on the same data.

A real Prometheus, scraping; a real proxy in front of it for every watch; the real trigger in a process. All
faults of the table run at once, on one clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.watch.watch_plan import WatchPlan
from tests.faults.exporter import BASELINE, RELEASE, running_exporter
from tests.faults.fault_table import (
    BLIND_AFTER_S,
    DURATION_S,
    FAULTS,
    ONSET,
    WINDOW_S,
    Fault,
    Stage,
    backfilled,
    worsen,
)
from tests.support.fault_proxy import running_fault_proxy
from tests.support.network import wait_until
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus
from tests.support.replay import Outcome, replay_window
from tests.support.triggers import LIBFAKETIME, TriggerProcess

pytestmark = [pytest.mark.service, pytest.mark.timeout(240)]

SETTLE = timedelta(seconds=3)
BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class WatchOutcome:
    """How one watch ended.

    :param watch: what the watch said.
    :param replay: what `replay` says of what the backend holds for the whole window.
    :param seen: what it says of the part that a blind watch could still read.
    """

    watch: Evaluation
    replay: Evaluation
    seen: Evaluation | None


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, WatchOutcome]]:
    """Run the whole table once."""
    if not is_installed():
        pytest.skip(WHY_NOT)
    with ExitStack() as stack:
        harness = FaultHarness(tmp_path_factory.mktemp("faults"), stack)
        harness.run()
        yield {
            fault.name: harness.outcome_of(fault)
            for fault in harness.faults
            if fault.name in harness.verdicts
        }


class FaultHarness:
    """Everything that runs: an exporter, servers that scrape it, proxies, and processes that watch."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.faults = [fault for fault in FAULTS if fault.clock_s is None or LIBFAKETIME.exists()]
        self.exporter = stack.enter_context(running_exporter())
        for fault in self.faults:
            self.exporter.add(fault.name)
            self.exporter.release(fault.name).exposed = not fault.hidden
        shared = self.prometheus("prometheus", stack)
        self.servers = {
            fault.name: self.prometheus(fault.name, stack, fault) if fault.own_prometheus else shared
            for fault in self.faults
        }
        self.proxies = {
            fault.name: stack.enter_context(running_fault_proxy(self.servers[fault.name].port))
            for fault in self.faults
        }
        self.specs = {fault.name: self.spec(fault) for fault in self.faults}
        together = [fault.name for fault in self.faults if not fault.own_process]
        of_many = self.process("triggers", together, stack)
        self.processes = dict.fromkeys(together, of_many)
        for fault in self.faults:
            if fault.own_process:
                self.processes[fault.name] = self.process(fault.name, [fault.name], stack, fault.clock_s)
        for process in set(self.processes.values()):
            process.wait_until_ready()
        # Late enough for processes that share two cores to import what their first look needs.
        self.window_start = datetime.now(UTC) + timedelta(seconds=15)
        for fault in self.faults:
            if fault.begins is not None:
                offset = fault.begins - self.window_start
                self.processes[fault.name].fake_clock(offset.total_seconds())
                self.processes[fault.name].wait_for_clock(offset.total_seconds())

    def prometheus(self, name: str, stack: ExitStack, fault: Fault | None = None) -> Prometheus:
        # On the scale of these faults: a sample is carried forward for 5 s, as for 5 min by default.
        return stack.enter_context(
            running_prometheus(
                self.folder / name,
                [f"127.0.0.1:{self.exporter.port}"],
                arguments=["--query.lookback-delta=5s"],
                backfill=None if fault is None or fault.begins is None else backfilled(fault),
            )
        )

    def process(
        self, name: str, faults: list[str], stack: ExitStack, clock_s: float | None = None
    ) -> TriggerProcess:
        connections = {f"AIRFLOW_CONN_{fault.upper()}": self.proxies[fault].url for fault in faults}
        process = TriggerProcess(self.folder, name, {**connections, "TZ": "Europe/Berlin"})
        if clock_s is not None:
            process.fake_clock(clock_s)
        stack.callback(process.stop)
        process.start()
        return process

    def budget(self, fault: Fault) -> Path:
        return self.folder / f"{fault.name}.yaml"

    def blind_after_s(self, fault: Fault) -> float:
        # Faults are timed from the first look of all, which busy processes take seconds to come to.
        return BLIND_AFTER_S + fault.history.total_seconds() + (WINDOW_S if fault.hidden else 0)

    def spec(self, fault: Fault) -> RolloutSpec:
        labels = f'fault="{fault.name}"'
        document = {
            "release": RELEASE,
            "baseline": BASELINE,
            "window": f"{WINDOW_S + fault.history.total_seconds():g}s",
            "rollback_budget": {
                "escalation": [
                    {
                        "handoff_delta_pct": 100,
                        "max_duration": f"{DURATION_S}s",
                        "method": "threshold",
                    },
                    {
                        "handoff_share_above": 0.3,
                        "max_duration": f"{DURATION_S}s",
                        "method": "threshold",
                    },
                ]
            },
            "watch": {
                "poll": "1s",
                "step": "1s",
                "settle": f"{SETTLE.total_seconds():g}s",
                "max_gap": "12s",
                "blind_after": f"{self.blind_after_s(fault):g}s",
            },
            "source": {
                "type": "prometheus",
                "conn_id": fault.name,
                "scrape_interval": "1s",
                "timeout": "5s",
            },
            "metrics": {
                "handoff": {
                    "kind": "proportion",
                    "query": {
                        "events": f"bot_handoffs_total{{{labels}}}",
                        "total": f"bot_requests_total{{{labels}}}",
                    },
                },
                "handoff_share": {"kind": "gauge", "query": {"gauge": f"bot_handoff_share{{{labels}}}"}},
            },
        }
        self.budget(fault).write_text(json.dumps(document, indent=1))
        return load_budget(self.budget(fault))

    def plan(self, fault: Fault) -> WatchPlan:
        start = fault.begins or self.window_start
        return WatchPlan(
            spec=self.specs[fault.name],
            window_start=start - fault.history,
            window_end=start + timedelta(seconds=WINDOW_S),
        )

    def run(self) -> None:
        """Let everything happen at its second, and wait until every watch has said its verdict."""
        acts = [
            (
                second,
                act,
                Stage(
                    fault.name,
                    self.exporter,
                    self.servers[fault.name],
                    self.proxies[fault.name],
                    self.processes[fault.name],
                ),
            )
            for fault in self.faults
            for second, act in (*fault.acts, *([(ONSET, worsen)] if fault.worsens else []))
        ]
        for process in set(self.processes.values()):
            process.watch(
                {
                    fault.name: self.plan(fault)
                    for fault in self.faults
                    if self.processes[fault.name] is process
                }
            )
        wait_until(
            lambda: all(proxy.passed for proxy in self.proxies.values()),
            within_s=60,
            what="a first look of every watch",
        )
        begin = datetime.now(UTC)
        for second, act, stage in sorted(acts, key=lambda planned: planned[0]):
            if second > WINDOW_S:
                break
            due = begin + timedelta(seconds=second)
            time.sleep(max((due - datetime.now(UTC)).total_seconds(), 0))
            act(stage)
        self.verdicts = {}
        for process in set(self.processes.values()):
            self.verdicts |= process.wait(within_s=45)

    def outcome_of(self, fault: Fault) -> WatchOutcome:
        """Read the window from the backend itself, past the proxy, and replay it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"AIRFLOW_CONN_{fault.name.upper()}", self.servers[fault.name].url)
            plan = self.plan(fault)
            verdicts = self.verdicts[fault.name]

            def replay(until: datetime) -> Evaluation:
                return replay_window(
                    open_source,
                    self.budget(fault),
                    plan.spec,
                    plan.window_start,
                    until,
                    self.folder / f"{fault.name}.csv",
                )

            seen = None
            if verdicts.blind is not None and fault.replay is not None:
                seen = replay(verdicts.blind.since)
            return WatchOutcome(verdicts, replay(plan.window_end), seen)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_verdict_after_a_fault_is_that_of_replay_on_the_same_data(
    outcomes: dict[str, WatchOutcome], name: str
) -> None:
    fault = BY_NAME[name]
    if fault.clock_s is not None and not LIBFAKETIME.exists():
        pytest.skip("no libfaketime found; install the package faketime")
    assert name in outcomes, "the watch has said nothing, long after its window"
    watch, replay = outcomes[name].watch, outcomes[name].replay
    assert watch.verdict is fault.verdict, watch.sentence
    if fault.name == "prometheus_stopped_for_long":
        assert_blind_since_about_the_same(watch, replay)
    elif fault.replay is None:
        assert Outcome.of(watch) == Outcome.of(replay)
    else:
        # The backend kept what the watch could not read: up to where it saw, both agree that all was well.
        assert replay.verdict is fault.replay
        assert not watch.breaches
        seen = outcomes[name].seen
        assert seen is not None
        assert (seen.verdict, seen.final) == (VerdictKind.HEALTHY, False)


def assert_blind_since_about_the_same(watch: Evaluation, replay: Evaluation) -> None:
    """What settled in the last moments of a server, no client could read any more but after it was back."""
    assert replay.verdict is watch.verdict
    assert watch.blind is not None
    assert replay.blind is not None
    assert timedelta(0) <= replay.blind.since - watch.blind.since <= SETTLE + timedelta(seconds=2)
