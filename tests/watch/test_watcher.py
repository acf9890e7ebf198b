"""The watch that trigger and sensor share, on a clock of its own: a day takes milliseconds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.model.budget import Tier
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.pace import pace_of
from rollback_budget.model.watch_settings import OnBlind, Watch
from rollback_budget.watch.watch_plan import Override, Role, WatchPlan
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.simulated_watch import DAY, WATCH, Backend, SimulatedWatch, slow_from

pytestmark = pytest.mark.pure


def test_a_healthy_day_ends_healthy_and_each_sample_is_read_once() -> None:
    backend = Backend(slow_from(DAY + 1))
    verdict, when = SimulatedWatch(rollout(watch=WATCH), backend).watch(DAY)
    assert verdict is not None
    assert (verdict.verdict, verdict.final, when) == (VerdictKind.HEALTHY, True, at(DAY))
    assert all(
        after.start == before.end
        for before, after in zip(backend.requests, backend.requests[1:], strict=False)
    )


@pytest.mark.parametrize("kill_every", [None, 1, 7, 400])
def test_a_breach_is_found_at_the_same_look_however_often_the_watch_dies(kill_every: int | None) -> None:
    verdict, when = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(600))).watch(DAY, kill_every)
    assert verdict is not None
    assert when == at(630)
    assert verdict.breaches[0].breached_at == at(630)


def test_what_happened_while_the_source_was_unavailable_is_found_at_its_true_time() -> None:
    spec = rollout(watch=Watch(settle=timedelta(0), blind_after=timedelta(hours=2)))
    verdict, when = SimulatedWatch(spec, Backend(slow_from(600), down=(590, 640))).watch(DAY)
    assert verdict is not None
    assert verdict.breaches[0].breached_at == at(630)
    assert when == at(641)


def test_a_source_that_stays_unavailable_makes_the_watch_blind_in_time() -> None:
    verdict, when = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(DAY + 1), down=(100, DAY))).watch(
        DAY
    )
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert when == at(115)


def test_a_watch_that_restarts_while_the_source_is_unavailable_is_not_blind_at_once() -> None:
    simulation = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(600), down=(590, 610)))
    verdict, when = simulation.watch(DAY, kill_every=600)
    assert verdict is not None
    assert (verdict.verdict, when) == (VerdictKind.BREACH, at(630))


def test_a_watch_whose_every_look_is_a_process_of_its_own_is_blind_in_time_where_its_looks_are_noted() -> (
    None
):
    simulation = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(DAY + 1), down=(100, DAY)))
    simulation.seen_until = lambda: {pace_of(simulation.spec, "p95"): at(100)}
    verdict, when = simulation.watch(DAY, kill_every=1)
    assert verdict is not None
    assert (verdict.verdict, when) == (VerdictKind.BLIND, at(115))
    assert verdict.blind is not None
    assert verdict.blind.since == at(100)


def test_a_window_that_ends_unseen_is_not_promoted_but_blind() -> None:
    simulation = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(DAY + 1), down=(DAY - 5, 10 * DAY)))
    verdict, when = simulation.watch(DAY + 60)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert when == at(DAY + 10)


def test_a_window_that_ends_unseen_waits_for_the_source() -> None:
    simulation = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(DAY - 35), down=(DAY - 10, DAY)))

    async def run() -> Evaluation | None:
        simulation.now = at(DAY)
        watcher = simulation.watcher()
        assert await watcher.look() is None
        simulation.backend.down = None
        return await watcher.look()

    verdict = asyncio.run(run())
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH


def test_an_override_starts_a_new_burn() -> None:
    spec = rollout(budget(), watch=WATCH)
    override = Override(at=at(640), budgets=(spec.budgets[0].id,))
    verdict, _ = SimulatedWatch(spec, Backend(slow_from(600)), overrides=(override,)).watch(DAY)
    assert verdict is not None
    assert verdict.breaches[0].started_at == at(641)
    assert verdict.breaches[0].breached_at == at(671)


def test_a_guard_sees_tier_a_alone_and_is_never_blind() -> None:
    spec = rollout(budget(), budget("incidents", tier=Tier.A, minutes=0, area="safety"), watch=WATCH)
    guard = {"role": Role.GUARD, "until": at(900)}
    simulation = SimulatedWatch(spec, Backend(slow_from(600), down=(700, 800)), **guard)
    verdict, _ = simulation.watch(899)
    assert verdict is None
    simulation.now = at(900)
    assert simulation.watcher().is_over
    incident = arm(RELEASE, [9.0], metric="incidents", first=650) + arm(
        BASELINE, [1.0], metric="incidents", first=650
    )
    verdict, when = SimulatedWatch(spec, Backend(slow_from(600) + incident), **guard).watch(899)
    assert verdict is not None
    assert [breach.budget for breach in verdict.breaches] == ["safety.incidents_delta_pct"]
    assert when == at(650)


def test_a_recorded_breach_does_not_end_the_watch() -> None:
    decision = Decision(tier_c_breach=TierDecision(action=Action.RECORD_ONLY))
    spec = rollout(budget(tier=Tier.C), watch=WATCH, decision=decision)
    verdict, when = SimulatedWatch(spec, Backend(slow_from(600))).watch(DAY)
    assert verdict is not None
    assert (verdict.verdict, when) == (VerdictKind.BREACH, at(DAY))


def test_polls_come_when_a_bucket_has_settled() -> None:
    simulation = SimulatedWatch(rollout(watch=Watch(settle=timedelta(seconds=90))), Backend([]))
    simulation.now = START + timedelta(seconds=10)
    assert simulation.watcher().seconds_to_next_look() == pytest.approx(20.01)
    simulation.now = START + timedelta(seconds=30)
    assert simulation.watcher().seconds_to_next_look() == pytest.approx(60.01)


def test_blindness_may_be_no_verdict_by_agreement() -> None:
    watch = Watch(settle=timedelta(0), on_blind=OnBlind.CONTINUE)
    verdict, _ = SimulatedWatch(rollout(watch=watch), Backend(slow_from(DAY + 1), down=(100, 2000))).watch(
        2100
    )
    assert verdict is not None
    assert verdict.verdict is VerdictKind.HEALTHY


def test_a_plan_survives_the_trip_through_airflows_database() -> None:
    plan = SimulatedWatch(rollout(), Backend([]), overrides=(Override(at=at(1)),), until=at(5) + MINUTE).plan
    assert WatchPlan.model_validate_json(plan.model_dump_json()) == plan
