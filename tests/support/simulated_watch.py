"""One watch on a clock of its own, with samples in memory: a day takes milliseconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from rollback_budget.engine import Sample
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.exceptions import SourceError
from rollback_budget.model.pace import Pace
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.look_writer import LookSink
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, RELEASE, START, arm, at

WATCH = Watch(settle=timedelta(0), stuck_after=timedelta(days=30))
DAY = 24 * 60


class Backend:
    """A metric source that holds samples, remembers what it was asked, and can be down."""

    def __init__(self, samples: Sequence[Sample], down: tuple[float, float] | None = None) -> None:
        self.samples = samples
        self.down = down
        self.requests: list[SeriesRequest] = []

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if self.down is not None and at(self.down[0]) < request.end <= at(self.down[1]):
            raise SourceError("connection refused", transient=True)
        self.requests.append(request)
        return [sample for sample in self.samples if request.start < sample.time <= request.end]


class SimulatedWatch:
    """Watches one rollout minute by minute; the watcher can be killed at any of them."""

    def __init__(self, spec: RolloutSpec, backend: Backend, **plan: object) -> None:
        self.spec = spec
        self.backend = backend
        self.now = START
        #: Where looks go; None for nowhere.
        self.looks: LookSink | None = None
        #: What an earlier process noted of how far it saw; None where nobody notes that.
        self.seen_until: Callable[[], Mapping[Pace, datetime]] | None = None
        self.plan = WatchPlan(spec=spec, window_start=START, window_end=START + spec.window).model_copy(
            update=plan
        )

    def watcher(self) -> Watcher:
        async def open_source(_spec: RolloutSpec) -> Source:
            return self.backend

        return Watcher(
            self.plan,
            open_source,
            log=logging.getLogger(__name__),
            looks=self.looks,
            now=lambda: self.now,
            seen_until=self.seen_until,
        )

    def watch(self, minutes: int, kill_every: int | None = None) -> tuple[Evaluation | None, datetime]:
        async def run() -> Evaluation | None:
            watcher = self.watcher()
            for minute in range(1, minutes + 1):
                self.now = at(minute)
                if kill_every is not None and minute % kill_every == 0:
                    watcher = self.watcher()
                verdict = await watcher.look()
                if verdict is not None:
                    return verdict
            return None

        return asyncio.run(run()), self.now


def slow_from(onset: int, length: int = DAY) -> list[Sample]:
    """p95 of the release is a third above the baseline's from minute ``onset`` on."""
    release = [1.6 if minute < onset else 2.1 for minute in range(1, length + 1)]
    return arm(RELEASE, release, n=200) + arm(BASELINE, [1.6] * length, n=200)
