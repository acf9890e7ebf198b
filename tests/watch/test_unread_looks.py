"""Looks that could not be read count once when the source is back, wherever the reads of a replay are cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import pytest

from rollback_budget.clock import grid_floor
from rollback_budget.engine import Evaluation, Sample, evaluate
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.watch import pace_reader
from rollback_budget.watch.watch_plan import WatchPlan
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.simulated_watch import Backend, SimulatedWatch
from tests.watch.test_paced_watch import WATCH, score

pytestmark = [pytest.mark.pure, pytest.mark.slow]

WINDOW = 240
#: Reads end at every fourth look of a pace: the hour, for scores of every quarter of it.
CHUNK = 4
QUARTERLY = Metric(every=15 * MINUTE, lag=25 * MINUTE)
FAST, SLOW = budget(minutes=5), budget("score", threshold=20.0, minutes=30, area="quality")
SPECS = {
    "both paces": (FAST, SLOW),
    "latency alone": (FAST,),
    "scores alone": (SLOW,),
}


def spec_of(kind: str) -> RolloutSpec:
    return rollout(*SPECS[kind], watch=WATCH, metrics={"score": QUARTERLY}, minutes=WINDOW)


def samples(bad_from: int) -> list[Sample]:
    """Bad from a minute on, for the few looks that a budget takes."""
    latency = [130.0 if minute > bad_from else 100.0 for minute in range(1, WINDOW + 1)]
    scores = [130.0 if quarter * 15 > bad_from else 100.0 for quarter in range(1, WINDOW // 15 + 1)]
    return arm(RELEASE, latency) + arm(BASELINE, [100.0] * WINDOW) + score(scores, 15)


class AwayBackend(Backend):
    """Has no answer for looks behind a minute, before another minute of the watch."""

    def __init__(self, samples: Sequence[Sample], behind: float, back_at: float) -> None:
        super().__init__(samples)
        self.behind, self.back_at = behind, back_at
        self.watch: SimulatedWatch | None = None

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        assert self.watch is not None
        if request.end > at(self.behind) and self.watch.now < at(self.back_at):
            raise SourceError("connection refused", transient=True)
        return await super().fetch(request)


class Counted:
    """Counts how often each look is recorded."""

    def __init__(self) -> None:
        self.newest = START
        self.times: Counter[tuple[str, int]] = Counter()

    async def looks_until(self, plan: WatchPlan) -> datetime:
        return self.newest

    def record(self, plan: WatchPlan, at: datetime, snapshots: Sequence[BudgetSnapshot]) -> None:
        self.newest = max(self.newest, at)
        self.times.update((one.budget, one.look.time) for one in snapshots)

    def alive(self, plan: WatchPlan) -> None:
        pass


def watch_through(
    spec: RolloutSpec, found: list[Sample], *, behind: float, back_at: float, first_poll: int
) -> tuple[Evaluation | None, Counted, AwayBackend]:
    backend = AwayBackend(found, behind, back_at)
    simulation = backend.watch = SimulatedWatch(spec, backend)
    simulation.looks = counted = Counted()

    async def run() -> Evaluation | None:
        simulation.now = at(first_poll)
        watcher = simulation.watcher()
        for minute in range(first_poll, 600):
            simulation.now = at(minute)
            verdict = await watcher.look()
            if verdict is not None:
                return verdict
        return None

    return asyncio.run(run()), counted, backend


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("behind", [59, 60, 61, 119, 120, 121])
@pytest.mark.parametrize("first_poll", [1, 133])
@pytest.mark.parametrize("bad_from", [118, WINDOW])
def test_looks_that_could_not_be_read_are_folded_and_recorded_once(
    monkeypatch: pytest.MonkeyPatch, kind: str, behind: int, first_poll: int, bad_from: int
) -> None:
    """The source is away from the border of a read on, or beside it, for less than it takes to be blind."""
    monkeypatch.setattr(pace_reader, "MAX_STEPS", CHUNK)
    spec, found = spec_of(kind), samples(bad_from)
    back_at = max(behind + 12, first_poll + 5)
    verdict, counted, backend = watch_through(
        spec, found, behind=behind, back_at=back_at, first_poll=first_poll
    )
    replayed = evaluate(spec, found, start=START, until=at(WINDOW))
    assert verdict is not None
    assert (verdict.verdict, verdict.breaches) == (replayed.verdict, replayed.breaches)
    if len(spec.budgets) == 1 or not replayed.breaches:
        # Else looks of the one pace were folded that are decided after the breach in the other one.
        assert verdict == replayed
    assert {one.budget: one.looks for one in verdict.budgets} == Counter(
        budget_id for budget_id, _ in counted.times
    )
    assert set(counted.times.values()) == {1}
    for request in backend.requests:
        border = grid_floor(request.start, CHUNK * request.step) + CHUNK * request.step
        assert request.end <= border
