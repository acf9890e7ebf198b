"""A live watch of metrics in paces of their own: polls, outages, restarts, and a replay of it all, agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Evaluation, Sample, VerdictKind, evaluate
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.model.pace import longest_shift, pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.watch.watch_plan import WatchPlan
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.examples import examples
from tests.support.simulated_watch import Backend, SimulatedWatch

pytestmark = [pytest.mark.pure, pytest.mark.slow]

WINDOW = 120
WATCH = Watch(
    settle=MINUTE,
    max_gap=3 * MINUTE,
    blind_after=15 * MINUTE,
    stuck_after=timedelta(days=30),
)


def spec_of(metric: Metric, *, minutes: float = WINDOW) -> RolloutSpec:
    return rollout(
        budget("score", threshold=20.0, minutes=20, area="quality"),
        budget(minutes=5),
        watch=WATCH,
        metrics={"score": metric},
        minutes=minutes,
    )


def score(release: Sequence[float | None], every: int) -> list[Sample]:
    return [
        Sample(at(every * place), "score", version, value if version == RELEASE else 100.0, 50.0)
        for place, value in enumerate(release, 1)
        for version in (RELEASE, BASELINE)
        if value is not None
    ]


class LateBackend(Backend):
    """Holds what has arrived: a sample of the score comes ``lag`` after its time."""

    def __init__(self, samples: Sequence[Sample], lag: timedelta, watch: list[SimulatedWatch]) -> None:
        super().__init__(samples)
        self.lag = lag
        self.watch = watch

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        found = await super().fetch(request)
        now = self.watch[0].now
        late = {"score": self.lag, "p95": WATCH.settle}
        return [one for one in found if one.series in request.series and one.time + late[one.series] <= now]


@st.composite
def runs(draw: st.DrawFn, values: tuple[float | None, ...], length: int) -> list[float | None]:
    found: list[float | None] = []
    while len(found) < length:
        found += [draw(st.sampled_from(values))] * draw(st.sampled_from((1, 2, 5, 20)))
    return found[:length]


class Noted:
    """Keeps what it is given, as the ledger does."""

    def __init__(self) -> None:
        self.newest = START
        self.looks: set[tuple[str, int]] = set()

    async def looks_until(self, plan: WatchPlan) -> datetime:
        return self.newest

    def record(self, plan: WatchPlan, at: datetime, snapshots: Sequence[BudgetSnapshot]) -> None:
        self.newest = max(self.newest, at)
        self.looks |= {(one.budget, one.look.time) for one in snapshots}

    def alive(self, plan: WatchPlan) -> None:
        pass


@examples(60)
@given(st.data())
def test_a_live_watch_a_watch_that_restarts_and_a_replay_agree(data: st.DataObject) -> None:
    every = data.draw(st.sampled_from((1, 5, 7, 10, 30)), label="every")
    lag = data.draw(st.sampled_from((1, 4, 25, 60)), label="lag") * MINUTE
    by = data.draw(st.sampled_from(list(BucketBy)), label="bucket_by")
    window = data.draw(st.sampled_from((WINDOW - 7, WINDOW)), label="window")
    spec = spec_of(Metric(every=every * MINUTE, lag=lag, bucket_by=by), minutes=window)
    spec = spec.model_copy(
        update={
            "budgets": tuple(
                one.model_copy(update={"max_duration": data.draw(st.sampled_from((0, 5, 20))) * MINUTE})
                for one in spec.budgets
            )
        }
    )
    latency = data.draw(runs((100.0, 100.0, 100.0, 130.0, None), window), label="latency")
    scores = data.draw(runs((100.0, 100.0, 130.0, None), window // every), label="scores")
    samples = arm(RELEASE, latency) + arm(BASELINE, [100.0] * window) + score(scores, every)
    found: list[SimulatedWatch] = []
    arrives_after = WATCH.settle if by is BucketBy.ARRIVAL else lag
    found.append(SimulatedWatch(spec, LateBackend(samples, arrives_after, found)))
    noted = found[0].looks = data.draw(st.sampled_from((None, Noted())), label="ledger")
    polls = window + int(longest_shift(spec) / MINUTE) + 2
    kill_every = data.draw(st.sampled_from((None, 1, 7, 50)), label="kill every")
    live, _ = found[0].watch(polls, kill_every)
    replayed = evaluate(spec, samples, start=START, until=at(window))
    assert live is not None
    assert live == replayed
    if noted is not None:
        looked = {one.budget: one.looks for one in live.budgets}
        assert {budget: sum(one == budget for one, _ in noted.looks) for budget in looked} == looked


def watched(spec: RolloutSpec, backend: Backend, minutes: int) -> tuple[Evaluation | None, SimulatedWatch]:
    simulation = SimulatedWatch(spec, backend)
    verdict, _ = simulation.watch(minutes)
    return verdict, simulation


HALF_HOURLY = Metric(every=30 * MINUTE, lag=60 * MINUTE)


def quiet(minutes: int = WINDOW) -> list[Sample]:
    return arm(RELEASE, [100.0] * minutes) + arm(BASELINE, [100.0] * minutes)


def test_each_pace_is_asked_for_in_its_own_steps_and_no_more_often() -> None:
    backend = Backend(quiet() + score([100.0] * 4, 30))
    verdict, _ = watched(spec_of(HALF_HOURLY), backend, 200)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.HEALTHY
    of_score = [request for request in backend.requests if request.series == ("score",)]
    assert [(request.start, request.end) for request in of_score] == [
        (at(30 * place), at(30 * (place + 1))) for place in range(4)
    ]
    assert {request.step for request in of_score} == {30 * MINUTE}
    assert {request.step for request in backend.requests if request.series == ("p95",)} == {MINUTE}


def test_the_window_ends_when_the_last_late_score_has_been_judged() -> None:
    bad_at_the_end = score([100.0, 130.0, 130.0, 130.0], 30)
    verdict, simulation = watched(spec_of(HALF_HOURLY), Backend(quiet() + bad_at_the_end), 400)
    assert verdict is not None
    assert [one.budget for one in verdict.breaches] == ["quality.score_delta_pct"]
    assert verdict.breaches[0].breached_at == at(90)
    assert simulation.now == at(90 + 60)
    promoted, later = watched(spec_of(HALF_HOURLY), Backend(quiet() + score([100.0] * 4, 30)), 400)
    assert promoted is not None
    assert promoted.verdict is VerdictKind.HEALTHY
    assert later.now == at(120 + 60)


class HalfDown(Backend):
    """Answers for one series only."""

    def __init__(self, samples: Sequence[Sample], answers: str) -> None:
        super().__init__(samples)
        self.answers = answers

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if request.series != (self.answers,):
            raise SourceError("the table of scores is locked", transient=True)
        return await super().fetch(request)


def test_scores_that_cannot_be_read_hide_no_breach_of_the_latency() -> None:
    slow = arm(RELEASE, [100.0] * 60 + [130.0] * 60) + arm(BASELINE, [100.0] * 120)
    verdict, simulation = watched(spec_of(HALF_HOURLY), HalfDown(slow, "p95"), 400)
    assert verdict is not None
    assert [one.budget for one in verdict.breaches] == ["latency.p95_delta_pct"]
    assert simulation.now == at(66 + 1)


def test_a_latency_that_cannot_be_read_is_blind_in_minutes_although_scores_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    verdict, simulation = watched(spec_of(HALF_HOURLY), HalfDown(score([100.0] * 4, 30), "score"), 400)
    assert verdict is not None
    assert verdict.blind is not None
    assert verdict.blind.area == "latency"
    assert simulation.now == at(15 + 1)
    assert caplog.text.count("the table of scores is locked") >= 1


def test_scores_that_never_come_are_said_at_the_end_of_the_window() -> None:
    verdict, simulation = watched(spec_of(HALF_HOURLY), HalfDown(quiet(), "p95"), 2000)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert verdict.blind is not None
    assert verdict.blind.budgets == ("quality.score_delta_pct",)
    assert simulation.now == at(120 + 60)


class LockedUntil(Backend):
    """Does not answer for the score before a minute of the watch."""

    def __init__(self, samples: Sequence[Sample], minute: float, watch: list[SimulatedWatch]) -> None:
        super().__init__(samples)
        self.minute = minute
        self.watch = watch

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if request.series == ("score",) and self.watch[0].now < at(self.minute):
            raise SourceError("the table of scores is locked", transient=True)
        return await super().fetch(request)


def test_scores_that_cannot_be_read_at_the_end_are_waited_for_as_long_as_a_blind_watch_would_wait() -> None:
    spec = spec_of(Metric(every=WINDOW * MINUTE, lag=60 * MINUTE))
    samples = quiet() + score([130.0], WINDOW)
    found: list[SimulatedWatch] = []
    found.append(SimulatedWatch(spec, LockedUntil(samples, 120 + 60 + 10, found)))
    verdict, now = found[0].watch(400)
    assert verdict is not None
    assert (verdict.verdict, now) == (VerdictKind.HEALTHY, at(190))
    found[0] = SimulatedWatch(spec, LockedUntil(samples, 400, found))
    verdict, now = found[0].watch(400)
    assert verdict is not None
    assert (verdict.verdict, now) == (VerdictKind.BLIND, at(120 + 60 + 14))


def test_a_suspension_holds_for_the_looks_that_were_not_decided_when_it_was_recorded() -> None:
    spec = spec_of(HALF_HOURLY)
    suspended = Suspension(
        budget="quality", since=at(100), until=at(120), by="alice", reason="the judge is being repaired"
    )
    samples = quiet() + score([100.0, 130.0, 130.0, 130.0], 30)
    found = evaluate(spec, samples, start=START, until=at(WINDOW), suspensions=[suspended])
    score_budget = next(one for one in found.budgets if one.budget == "quality.score_delta_pct")
    # At 13:40 the looks up to 12:30 were decided: an hour late, every half hour.
    assert (score_budget.looks, score_budget.suspended_looks) == (4, 3)


async def _poll(simulation: SimulatedWatch, minutes: Sequence[int]) -> Evaluation | None:
    watcher = simulation.watcher()
    for minute in minutes:
        simulation.now = at(minute)
        verdict = await watcher.look()
        if verdict is not None:
            return verdict
    return None


def test_polls_that_come_rarely_find_the_same_as_polls_that_come_often() -> None:
    samples = quiet() + score([100.0, 130.0, 130.0, 130.0], 30)
    found = [
        asyncio.run(_poll(SimulatedWatch(spec_of(HALF_HOURLY), Backend(samples)), minutes))
        for minutes in (range(1, 400), range(7, 400, 45), [399])
    ]
    assert found[0] is not None
    assert found[0] == found[1] == found[2]


class OneSilentSeries(Backend):
    """Does not answer for the score from a minute of the watch on."""

    def __init__(self, samples: Sequence[Sample], minute: float, watch: list[SimulatedWatch]) -> None:
        super().__init__(samples)
        self.minute = minute
        self.watch = watch

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if request.series == ("score",) and self.watch[0].now >= at(self.minute):
            raise SourceError("the table of scores is locked", transient=True)
        return await super().fetch(request)


def test_a_watch_that_restarts_while_one_metric_is_silent_comes_to_its_end() -> None:
    found: list[SimulatedWatch] = []
    samples = quiet() + score([100.0] * 4, 30)
    found.append(SimulatedWatch(spec_of(HALF_HOURLY), OneSilentSeries(samples, 95, found)))
    verdict, now = found[0].watch(1000, kill_every=100)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    # The window, what comes late, and as long as a blind watch waits of its own life.
    assert at(180) <= now <= at(180 + 35)


def test_a_watch_whose_every_look_is_a_process_is_blind_for_one_silent_metric_in_its_own_time() -> None:
    metric = Metric(every=5 * MINUTE, lag=10 * MINUTE)
    spec = spec_of(metric, minutes=600)
    found: list[SimulatedWatch] = []
    samples = quiet(600) + score([100.0] * 120, 5)
    found.append(SimulatedWatch(spec, OneSilentSeries(samples, 31, found)))
    found[0].seen_until = lambda: {pace_of(spec, "score"): at(20)}
    verdict, now = found[0].watch(600, kill_every=1)
    assert verdict is not None
    assert verdict.blind is not None
    assert verdict.blind.area == "quality"
    assert verdict.blind.sentence == "no value of score could be read since 2026-10-01T12:20:00+00:00"
    assert now == at(20 + 75 + 10)


class HangingScore(Backend):
    """Never answers for the score."""

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if request.series == ("score",):
            await asyncio.Event().wait()
        return await super().fetch(request)


def test_scores_that_hang_keep_no_breach_of_the_latency_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollback_budget.watch.watcher.PATIENCE", timedelta(milliseconds=1))
    slow = arm(RELEASE, [100.0] * 60 + [130.0] * 60) + arm(BASELINE, [100.0] * 120)
    verdict, simulation = watched(spec_of(HALF_HOURLY), HangingScore(slow), 400)
    assert verdict is not None
    assert [one.budget for one in verdict.breaches] == ["latency.p95_delta_pct"]
    assert simulation.now == at(66 + 1)
