"""A standby in this process: a real ledger, and a source, a target and notifiers in memory."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from rollback_budget.clock import Elapsed, grid_floor, utc_now
from rollback_budget.engine import Sample
from rollback_budget.exceptions import LedgerUnavailableError, TargetError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import STANDBY
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison, Tier, Worse
from rollback_budget.model.decision import Action, Decision, OnTimeout, TierDecision
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import RecordedSource
from rollback_budget.model.spec import Commander, RolloutSpec
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.standby.standby import Standby
from rollback_budget.standby.tools import StandbyMessage, StandbyTools
from rollback_budget.targets.base import Serving
from rollback_budget.targets.rollback_terms import RollbackTerms
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.suspension_cache import SuspensionCache
from tests.engine.builders import BASELINE, RELEASE, budget, rollout
from tests.support.rollouts import KEY

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SHARES = {RELEASE: 0.5, BASELINE: 0.5}
INCIDENTS = budget(
    "incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", worse=Worse.HIGHER, tier=Tier.A
)
LATENCY = budget(minutes=1)
#: Looks of a second each, so that a rollback is proven on the traffic within seconds.
WATCH = Watch(settle=timedelta(0), poll=SECOND, step=SECOND)
TARGET = HttpTarget(
    conn_id="router", read=HttpRead(path="/"), write=HttpWrite(path="/"), deadline=timedelta(seconds=20)
)


@dataclass
class Router:
    """A target in memory; ``works`` is False while it refuses every change."""

    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    works: bool = True
    accepted: list[str] = field(default_factory=list)
    moved_at: datetime | None = None

    def read(self) -> Serving:
        return Serving(dict(self.shares))

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        if not self.works:
            raise TargetError("503")
        self.shares = dict(shares)
        self.accepted.append(idempotency_key)
        self.moved_at = utc_now()

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        return ()


@dataclass
class Metrics:
    """A metric source whose release is slow, or has incidents, from a time on until it gets no traffic."""

    router: Router
    slow_from: datetime | None = None
    incidents_from: datetime | None = None
    fetched: int = 0
    hangs: bool = False

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        self.fetched += 1
        if self.hangs:
            await asyncio.Event().wait()
        found = []
        time = grid_floor(request.start, request.step) + request.step
        while time <= request.end:
            for version in (RELEASE, BASELINE):
                serves = version == RELEASE and (self.router.moved_at is None or time <= self.router.moved_at)
                slow = serves and self.slow_from is not None and time > self.slow_from
                hurt = serves and self.incidents_from is not None and time > self.incidents_from
                found.append(Sample(time, "p95", version, 200.0 if slow else 100.0))
                found.append(Sample(time, "incidents", version, 1.0 if hurt else 0.0))
            time += request.step
        return found


class CutOff:
    """Between a standby and its ledger; ``is_cut`` loses every call."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.is_cut = False
        self.asked = 0

    def __call__(self) -> Ledger:
        self.asked += 1
        if self.is_cut:
            raise LedgerUnavailableError("no route to host")
        return self._ledger


def shipped_rollout(
    ledger: Ledger,
    *,
    ago: timedelta = 5 * MINUTE,
    key: RolloutKey = KEY,
    ours: bool = True,
    on_timeout: OnTimeout = OnTimeout.ROLLBACK,
    within: timedelta = 15 * MINUTE,
    window: timedelta = timedelta(hours=24),
    metrics: Mapping[str, Metric] = MappingProxyType({}),
) -> RolloutSpec:
    """A rollout that shipped a while ago, and whose watch has never given a sign of life.

    :param ours: whether standby can move its traffic.
    :param metrics: those that are looked at in a pace of their own.
    """
    asks = TierDecision(
        action=Action.INCIDENT_COMMANDER_DECISION, within=within, on_timeout=on_timeout, max_overrides=1
    )
    spec = rollout(
        LATENCY,
        INCIDENTS,
        watch=WATCH,
        minutes=window / MINUTE,
        metrics=dict(metrics),
        decision=Decision(tier_b_breach=asks),
        source=RecordedSource(path="nowhere.csv"),
        target=TARGET,
        incident_commanders=(Commander(id="alice", name="alice"),),
    )
    at = utc_now() - ago
    ledger.rollouts.open(key, spec, at)
    ledger.rollouts.record_shipped(
        key, at, at + spec.window, RollbackTerms(before=(SHARES,)) if ours else None
    )
    return spec


class StandbyInMemory:
    """A standby, and everything around it that a test looks at."""

    def __init__(
        self,
        ledger: Ledger,
        name: str = "host-1",
        after: timedelta | None = None,
        elapsed: Elapsed = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.open_ledger = CutOff(ledger)
        self.router = Router()
        self.metrics = Metrics(self.router)
        self.sent: list[StandbyMessage] = []
        #: The notifiers that each of the next messages does not reach.
        self.misses: list[Sequence[str]] = []
        #: What a takeover lacks here.
        self.problems: list[str] = []
        #: No message is sent before.
        self.may_send = threading.Event()
        self.may_send.set()
        log = logging.getLogger(__name__)
        self.looks = LookWriter(
            lambda: ledger.looks, log=log, by=STANDBY, batch_wait=timedelta(milliseconds=20)
        )
        tools = StandbyTools(
            open_ledger=self.open_ledger,
            open_source=self._open_source,
            close_sources=self._close,
            open_target=lambda _spec: self.router,
            open_target_in_time=lambda _spec, _most: nullcontext(self.router),
            send=self._send,
            problems=lambda _spec: self.problems,
            looks=self.looks,
            suspensions=SuspensionCache(lambda after: ledger.suspensions.ending_after(after=after)),
        )
        self.standby = Standby(tools, name, after, elapsed)

    def _send(self, message: StandbyMessage) -> Sequence[str]:
        self.may_send.wait()
        self.sent.append(message)
        return self.misses.pop(0) if self.misses else ()

    async def _open_source(self, _spec: RolloutSpec) -> Source:
        return self.metrics

    async def _close(self) -> None:
        pass

    def events(self) -> list[str]:
        return [message.event.value for message in self.sent]

    async def run_once(self) -> bool:
        is_done = await self.standby.run_once()
        self.looks.flush()
        return is_done

    async def run_until(self, condition: object, within_s: float = 30) -> None:
        """Let it run until ``condition()`` is true."""
        stop = asyncio.Event()
        running = asyncio.ensure_future(self.standby.run(stop))
        try:
            async with asyncio.timeout(within_s):
                while not condition():  # type: ignore[operator]
                    await asyncio.sleep(0.02)
        finally:
            stop.set()
            await running
            self.looks.flush()
