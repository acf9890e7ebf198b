from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Fold, VerdictKind, Window, evaluate, frame_of
from rollback_budget.engine.evaluation import Evaluation, Status
from rollback_budget.engine.suspension import EVERY_BUDGET, Suspension
from rollback_budget.model.budget import Comparison, Method, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.watch_settings import Watch
from tests.engine.builders import (
    BASELINE,
    MINUTE,
    RELEASE,
    START,
    arm,
    at,
    both,
    budget,
    property_test,
    rollout,
)

pytestmark = pytest.mark.pure

P95 = budget()
SETTLED = Watch(settle=0 * MINUTE, stuck_after=24 * 60 * MINUTE)


def suspended(since: float, until: float, what: str = P95.id) -> Suspension:
    return Suspension(budget=what, since=at(since), until=at(until), by="alice", reason="load test")


def test_looks_under_a_suspension_are_seen_and_add_to_nothing() -> None:
    samples = both([130.0] * 90)
    said = evaluate(
        rollout(watch=SETTLED), samples, start=START, until=at(40), suspensions=[suspended(10, 50)]
    )
    (stands,) = said.budgets
    assert stands.look is not None
    assert (stands.look.status, stands.burn, stands.looks) == (Status.BAD, 0 * MINUTE, 40)
    assert (stands.suspended, stands.suspended_looks) == (suspended(10, 50), 30)
    assert Evaluation.model_validate_json(said.model_dump_json()) == said


def test_after_a_suspension_the_burn_starts_anew_from_the_first_look_after_it() -> None:
    said = evaluate(rollout(watch=SETTLED), both([130.0] * 90), start=START, suspensions=[suspended(29, 50)])
    (breach,) = said.breaches
    assert (breach.started_at, breach.breached_at) == (at(51), at(81))
    assert said.budgets[0].suspended is None
    assert said.budgets[0].suspended_looks == 21


def test_data_without_a_look_when_a_suspension_was_recorded_is_under_it() -> None:
    spec = rollout(watch=Watch(settle=3 * MINUTE))
    said = evaluate(spec, both([130.0] * 40), start=START, suspensions=[suspended(33, 100)])
    assert said.budgets[0].suspended_looks == 10
    assert said.verdict is VerdictKind.HEALTHY


@pytest.mark.parametrize("what", ["latency", EVERY_BUDGET])
def test_an_area_and_everything_can_be_suspended_tier_a_too(what: str) -> None:
    incidents = budget(
        "incidents", Comparison.INCREASE, 0, minutes=0, area="latency", tier=Tier.A, min_samples=0
    )
    samples = [
        *both([130.0] * 60),
        *both([0.0, 4.0, *[0.0] * 58], baseline=0.0, metric="incidents"),
    ]
    spec = rollout(P95, incidents, watch=SETTLED)
    assert evaluate(spec, samples, start=START).breaches[0].breached_at == at(2)
    said = evaluate(spec, samples, start=START, until=at(60), suspensions=[suspended(1, 45, what)])
    assert said.verdict is VerdictKind.HEALTHY


def test_incidents_under_a_suspension_are_not_held_against_the_release_afterwards() -> None:
    incidents = budget("incidents", Comparison.INCREASE, 0, minutes=0, area="safety", min_samples=0)
    events = [0.0] * 60
    events[20] = 4.0
    spec = rollout(incidents, watch=SETTLED)
    hold = [suspended(10, 30, incidents.id)]
    samples = both(events, baseline=0.0, metric="incidents")
    assert evaluate(spec, samples, start=START, suspensions=hold).breaches == ()
    events[40] = 1.0
    samples = both(events, baseline=0.0, metric="incidents")
    (breach,) = evaluate(spec, samples, start=START, suspensions=hold).breaches
    assert (breach.breached_at, breach.delta) == (at(41), 1.0)


def test_evidence_gathered_under_a_suspension_weighs_nothing() -> None:
    success = budget(
        "success", Comparison.DELTA_PP, -2, area="quality", minutes=20, worse=Worse.LOWER, method=Method.AUTO
    )
    metric = {"success": Metric(kind=MetricKind.PROPORTION)}
    spec = rollout(success, watch=SETTLED, metrics=metric)
    bad = [0.95] * 60 + [0.60] * 60 + [0.95] * 120
    samples = arm(RELEASE, bad, metric="success", n=200) + arm(
        BASELINE, [0.95] * len(bad), metric="success", n=200
    )
    assert evaluate(spec, samples, start=START).verdict is VerdictKind.BREACH
    said = evaluate(spec, samples, start=START, suspensions=[suspended(60, 120, "quality")])
    assert said.verdict is VerdictKind.HEALTHY
    assert said.budgets[0].p_value == pytest.approx(1.0, abs=0.5)


def test_a_suspended_budget_without_data_makes_no_watch_blind_and_hides_no_blindness() -> None:
    other = budget("p50")
    holes: list[float | None] = [100.0] * 5 + [None] * 55
    spec = rollout(P95, other, watch=SETTLED)
    blind = both([100.0] * 60) + both(holes, metric="p50")
    assert evaluate(spec, blind, start=START, until=at(60)).verdict is VerdictKind.HEALTHY
    hold = [suspended(10, 60)]
    assert evaluate(spec, blind, start=START, suspensions=hold).blind is not None
    every = [suspended(10, 60, "latency")]
    assert evaluate(spec, blind, start=START, suspensions=every).blind is None


@st.composite
def holds(draw: st.DrawFn) -> list[Suspension]:
    spans = st.tuples(st.integers(0, 60), st.integers(1, 40), st.sampled_from([P95.id, "latency", "all"]))
    return [
        suspended(since, since + length, what) for since, length, what in draw(st.lists(spans, max_size=3))
    ]


@property_test
@given(
    holds(),
    st.lists(st.sampled_from([100.0, 130.0, 130.0, 130.0, None]), min_size=60, max_size=60),
    st.lists(st.integers(1, 60), max_size=8),
    st.integers(0, 3),
    st.sampled_from([Method.THRESHOLD, Method.SIGN]),
)
def test_a_watch_that_learns_of_suspensions_as_they_come_agrees_with_its_replay(
    suspensions: list[Suspension],
    values: list[float | None],
    cuts: list[int],
    settle: int,
    method: Method,
) -> None:
    spec = rollout(budget(minutes=8, method=method), watch=Watch(settle=settle * MINUTE), minutes=60)
    samples = both(values)
    fold = Fold(spec, Window(START, START + spec.window))
    for first, last in pairwise(sorted({0, 60, *cuts})):
        fold.suspend([one for one in suspensions if one.since <= at(last + settle)])
        fold = fold.copy()
        fold.fold(frame_of(spec, samples, start=at(first), end=at(last)))
    assert fold.evaluation() == evaluate(spec, samples, start=START, until=at(60), suspensions=suspensions)
