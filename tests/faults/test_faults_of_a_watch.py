"""Whatever happens between a watch and its data: its verdict is the one of `replay` on the same data.

A real Prometheus, scraping; a real proxy in front of it for every watch; the real trigger in a process. All
nights of the table run at once, on one clock.
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
from tests.faults.scenarios import (
    BLIND_AFTER_S,
    DURATION_S,
    NIGHTS,
    ONSET,
    WINDOW_S,
    Night,
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
BY_NAME = {night.name: night for night in NIGHTS}


@dataclass(frozen=True)
class Told:
    """How one night ended.

    :param watch: what the watch said.
    :param replay: what `replay` says of what the backend holds for the whole window.
    :param seen: what it says of the part that a blind watch could still read.
    """

    watch: Evaluation
    replay: Evaluation
    seen: Evaluation | None


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """Run the whole table once."""
    if not is_installed():
        pytest.skip(WHY_NOT)
    with ExitStack() as stack:
        field = Field(tmp_path_factory.mktemp("faults"), stack)
        field.run()
        yield {night.name: field.tell(night) for night in field.nights if night.name in field.said}


class Field:
    """Everything that runs: an exporter, servers that scrape it, proxies, and processes that watch."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.nights = [night for night in NIGHTS if night.clock_s is None or LIBFAKETIME.exists()]
        self.exporter = stack.enter_context(running_exporter())
        for night in self.nights:
            self.exporter.add(night.name)
            self.exporter.release(night.name).exposed = not night.hidden
        shared = self.prometheus("prometheus", stack)
        self.servers = {
            night.name: self.prometheus(night.name, stack, night) if night.own_prometheus else shared
            for night in self.nights
        }
        self.proxies = {
            night.name: stack.enter_context(running_fault_proxy(self.servers[night.name].port))
            for night in self.nights
        }
        self.specs = {night.name: self.spec(night) for night in self.nights}
        together = [night.name for night in self.nights if not night.own_process]
        of_many = self.process("triggers", together, stack)
        self.processes = dict.fromkeys(together, of_many)
        for night in self.nights:
            if night.own_process:
                self.processes[night.name] = self.process(night.name, [night.name], stack, night.clock_s)
        for process in set(self.processes.values()):
            process.wait_until_ready()
        self.window_start = datetime.now(UTC) + timedelta(seconds=4)
        for night in self.nights:
            if night.begins is not None:
                offset = night.begins - self.window_start
                self.processes[night.name].fake_clock(offset.total_seconds())
                self.processes[night.name].wait_for_clock(offset.total_seconds())

    def prometheus(self, name: str, stack: ExitStack, night: Night | None = None) -> Prometheus:
        # In the measure of these nights: a sample is carried forward for 5 s, as for 5 min by default.
        return stack.enter_context(
            running_prometheus(
                self.folder / name,
                [f"127.0.0.1:{self.exporter.port}"],
                arguments=["--query.lookback-delta=5s"],
                backfill=None if night is None or night.begins is None else backfilled(night),
            )
        )

    def process(
        self, name: str, nights: list[str], stack: ExitStack, clock_s: float | None = None
    ) -> TriggerProcess:
        connections = {f"AIRFLOW_CONN_{night.upper()}": self.proxies[night].url for night in nights}
        process = TriggerProcess(self.folder, name, {**connections, "TZ": "Europe/Berlin"})
        if clock_s is not None:
            process.fake_clock(clock_s)
        stack.callback(process.stop)
        process.start()
        return process

    def budget(self, night: Night) -> Path:
        return self.folder / f"{night.name}.yaml"

    def spec(self, night: Night) -> RolloutSpec:
        labels = f'night="{night.name}"'
        document = {
            "release": RELEASE,
            "baseline": BASELINE,
            "window": f"{WINDOW_S + night.history.total_seconds():g}s",
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
                "blind_after": f"{BLIND_AFTER_S + night.history.total_seconds():g}s",
            },
            "source": {"type": "prometheus", "conn_id": night.name, "scrape_interval": "1s", "timeout": "5s"},
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
        self.budget(night).write_text(json.dumps(document, indent=1))
        return load_budget(self.budget(night))

    def plan(self, night: Night) -> WatchPlan:
        start = night.begins or self.window_start
        return WatchPlan(
            spec=self.specs[night.name],
            window_start=start - night.history,
            window_end=start + timedelta(seconds=WINDOW_S),
        )

    def run(self) -> None:
        """Let everything happen at its second, and wait until every watch has said its verdict."""
        acts = [
            (
                second,
                act,
                Stage(
                    night.name,
                    self.exporter,
                    self.servers[night.name],
                    self.proxies[night.name],
                    self.processes[night.name],
                ),
            )
            for night in self.nights
            for second, act in (*night.acts, *([(ONSET, worsen)] if night.worsens else []))
        ]
        for process in set(self.processes.values()):
            process.watch(
                {
                    night.name: self.plan(night)
                    for night in self.nights
                    if self.processes[night.name] is process
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
        self.said = {}
        for process in set(self.processes.values()):
            self.said |= process.wait(within_s=45)

    def tell(self, night: Night) -> Told:
        """Read the window from the backend itself, past the proxy, and replay it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"AIRFLOW_CONN_{night.name.upper()}", self.servers[night.name].url)
            plan = self.plan(night)
            said = self.said[night.name]

            def replay(until: datetime) -> Evaluation:
                return replay_window(
                    open_source,
                    self.budget(night),
                    plan.spec,
                    plan.window_start,
                    until,
                    self.folder / f"{night.name}.csv",
                )

            seen = None
            if said.blind is not None and night.replay is not None:
                seen = replay(said.blind.since)
            return Told(said, replay(plan.window_end), seen)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_verdict_after_a_fault_is_that_of_replay_on_the_same_data(
    told: dict[str, Told], name: str
) -> None:
    night = BY_NAME[name]
    if night.clock_s is not None and not LIBFAKETIME.exists():
        pytest.skip("no libfaketime found; install the package faketime")
    assert name in told, "the watch has said nothing, long after its window"
    watch, replay = told[name].watch, told[name].replay
    assert watch.verdict is night.verdict, watch.sentence
    if night.name == "prometheus_stopped_for_long":
        assert_blind_since_about_the_same(watch, replay)
    elif night.replay is None:
        assert Outcome.of(watch) == Outcome.of(replay)
    else:
        # The backend kept what the watch could not read: up to where it saw, both agree that all was well.
        assert replay.verdict is night.replay
        assert not watch.breaches
        seen = told[name].seen
        assert seen is not None
        assert (seen.verdict, seen.final) == (VerdictKind.HEALTHY, False)


def assert_blind_since_about_the_same(watch: Evaluation, replay: Evaluation) -> None:
    """What settled in the last moments of a server, nobody could read any more but after it was back."""
    assert replay.verdict is watch.verdict
    assert watch.blind is not None
    assert replay.blind is not None
    assert timedelta(0) <= replay.blind.since - watch.blind.since <= SETTLE + timedelta(seconds=2)
