"""The watch that trigger and sensor share, on a clock of its own: a day takes milliseconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine import Sample
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.exceptions import SourceError
from rollback_budget.model.budget import Tier
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind, Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.watch_plan import Override, Role, WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout

pytestmark = pytest.mark.pure

WATCH = Watch(settle=timedelta(0))
DAY = 24 * 60


class Backend:
    """A metric source that holds samples, remembers what it was asked, and can be down."""

    def __init__(self, samples: Sequence[Sample], down: tuple[float, float] | None = None) -> None:
        self.samples = samples
        self.down = down
        self.asked: list[SeriesRequest] = []

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if self.down is not None and at(self.down[0]) < request.end <= at(self.down[1]):
            raise SourceError("connection refused", transient=True)
        self.asked.append(request)
        return [sample for sample in self.samples if request.start < sample.time <= request.end]


class Night:
    """Watches one rollout minute by minute; the watcher can be killed at any of them."""

    def __init__(self, spec: RolloutSpec, backend: Backend, **plan: object) -> None:
        self.spec = spec
        self.backend = backend
        self.now = START
        self.plan = WatchPlan(spec=spec, window_start=START, window_end=START + spec.window).model_copy(
            update=plan
        )

    def watcher(self) -> Watcher:
        async def open_source(_spec: RolloutSpec) -> Source:
            return self.backend

        return Watcher(self.plan, open_source, log=logging.getLogger(__name__), now=lambda: self.now)

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


def slide(onset: int, length: int = DAY) -> list[Sample]:
    """p95 of the release is a third above the baseline's from minute ``onset`` on."""
    release = [1.6 if minute < onset else 2.1 for minute in range(1, length + 1)]
    return arm(RELEASE, release, n=200) + arm(BASELINE, [1.6] * length, n=200)


def test_a_healthy_day_ends_healthy_and_each_sample_is_read_once() -> None:
    backend = Backend(slide(DAY + 1))
    verdict, when = Night(rollout(watch=WATCH), backend).watch(DAY)
    assert verdict is not None
    assert (verdict.verdict, verdict.final, when) == (VerdictKind.HEALTHY, True, at(DAY))
    assert all(
        after.start == before.end for before, after in zip(backend.asked, backend.asked[1:], strict=False)
    )


@pytest.mark.parametrize("kill_every", [None, 1, 7, 400])
def test_a_breach_is_found_at_the_same_look_however_often_the_watch_dies(kill_every: int | None) -> None:
    verdict, when = Night(rollout(watch=WATCH), Backend(slide(600))).watch(DAY, kill_every)
    assert verdict is not None
    assert when == at(630)
    assert verdict.breaches[0].breached_at == at(630)


def test_what_happened_while_the_source_was_away_is_found_at_its_true_time() -> None:
    spec = rollout(watch=Watch(settle=timedelta(0), blind_after=timedelta(hours=2)))
    verdict, when = Night(spec, Backend(slide(600), down=(590, 640))).watch(DAY)
    assert verdict is not None
    assert verdict.breaches[0].breached_at == at(630)
    assert when == at(641)


def test_a_source_that_stays_away_makes_the_watch_blind_in_time() -> None:
    verdict, when = Night(rollout(watch=WATCH), Backend(slide(DAY + 1), down=(100, DAY))).watch(DAY)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert when == at(115)


def test_a_watch_that_restarts_while_the_source_is_away_is_not_blind_at_once() -> None:
    night = Night(rollout(watch=WATCH), Backend(slide(600), down=(590, 610)))
    verdict, when = night.watch(DAY, kill_every=600)
    assert verdict is not None
    assert (verdict.verdict, when) == (VerdictKind.BREACH, at(630))


def test_a_window_that_ends_unseen_is_not_promoted_but_blind() -> None:
    night = Night(rollout(watch=WATCH), Backend(slide(DAY + 1), down=(DAY - 5, 10 * DAY)))
    verdict, when = night.watch(DAY + 60)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert when == at(DAY + 10)


def test_a_window_that_ends_unseen_waits_for_the_source() -> None:
    night = Night(rollout(watch=WATCH), Backend(slide(DAY - 35), down=(DAY - 10, DAY)))

    async def run() -> Evaluation | None:
        night.now = at(DAY)
        watcher = night.watcher()
        assert await watcher.look() is None
        night.backend.down = None
        return await watcher.look()

    verdict = asyncio.run(run())
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH


def test_an_override_starts_a_new_burn() -> None:
    spec = rollout(budget(), watch=WATCH)
    override = Override(at=at(640), budgets=(spec.budgets[0].id,))
    verdict, _ = Night(spec, Backend(slide(600)), overrides=(override,)).watch(DAY)
    assert verdict is not None
    assert verdict.breaches[0].started_at == at(641)
    assert verdict.breaches[0].breached_at == at(671)


def test_a_guard_sees_tier_a_alone_and_is_never_blind() -> None:
    spec = rollout(budget(), budget("incidents", tier=Tier.A, minutes=0, area="safety"), watch=WATCH)
    guard = {"role": Role.GUARD, "until": at(900)}
    night = Night(spec, Backend(slide(600), down=(700, 800)), **guard)
    verdict, _ = night.watch(899)
    assert verdict is None
    night.now = at(900)
    assert night.watcher().is_over
    incident = arm(RELEASE, [9.0], metric="incidents", first=650) + arm(
        BASELINE, [1.0], metric="incidents", first=650
    )
    verdict, when = Night(spec, Backend(slide(600) + incident), **guard).watch(899)
    assert verdict is not None
    assert [breach.budget for breach in verdict.breaches] == ["safety.incidents_delta_pct"]
    assert when == at(650)


def test_a_recorded_breach_does_not_end_the_watch() -> None:
    decision = Decision(tier_c_breach=TierDecision(action=Action.RECORD_ONLY))
    spec = rollout(budget(tier=Tier.C), watch=WATCH, decision=decision)
    verdict, when = Night(spec, Backend(slide(600))).watch(DAY)
    assert verdict is not None
    assert (verdict.verdict, when) == (VerdictKind.BREACH, at(DAY))


def test_polls_come_when_a_bucket_has_settled() -> None:
    night = Night(rollout(watch=Watch(settle=timedelta(seconds=90))), Backend([]))
    night.now = START + timedelta(seconds=10)
    assert night.watcher().seconds_to_next_look() == pytest.approx(20.01)
    night.now = START + timedelta(seconds=30)
    assert night.watcher().seconds_to_next_look() == pytest.approx(60.01)


def test_blindness_may_be_no_verdict_by_agreement() -> None:
    watch = Watch(settle=timedelta(0), on_blind=OnBlind.CONTINUE)
    verdict, _ = Night(rollout(watch=watch), Backend(slide(DAY + 1), down=(100, 2000))).watch(2100)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.HEALTHY


def test_a_plan_survives_the_trip_through_airflows_database() -> None:
    plan = Night(rollout(), Backend([]), overrides=(Override(at=at(1)),), until=at(5) + MINUTE).plan
    assert WatchPlan.model_validate_json(plan.model_dump_json()) == plan
