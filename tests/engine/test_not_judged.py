"""A budget that nobody has seen is not called kept, and one that is used up is not passed over in silence."""

from __future__ import annotations

import pytest

from rollback_budget.engine import Restart, VerdictKind, evaluate
from rollback_budget.engine.decision_policy import NextStep, next_step
from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.budget import Method, Tier
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import START, at, both, budget, rollout

pytestmark = pytest.mark.pure

P95, P50 = budget("p95"), budget("p50")
HALF_SEEN = both([100.0] * 60) + both([100.0] * 5 + [None] * 55, metric="p50")
NEVER_SEEN = both([100.0] * 60)


@pytest.mark.parametrize("samples", [HALF_SEEN, NEVER_SEEN], ids=["not seen any more", "never seen"])
def test_a_window_ends_blind_where_one_budget_of_an_area_was_not_seen(samples: list[object]) -> None:
    spec = rollout(P95, P50, minutes=60)
    found = evaluate(spec, samples, start=START, until=at(60))  # type: ignore[arg-type]
    assert (found.verdict, found.final) == (VerdictKind.BLIND, True)
    assert found.evaluated_until == at(60)
    assert found.blind is not None
    assert found.blind.budgets == (P50.id,)
    assert f"{P50.id} was not judged, it could not be read for" in found.sentence


def test_a_breach_that_is_only_recorded_does_not_hide_that_another_budget_was_not_seen() -> None:
    cost = budget("cost", area="cost", minutes=5, tier=Tier.C)
    spec = rollout(P95, P50, cost, minutes=60)
    dear = both([200.0] * 60, metric="cost")
    found = evaluate(spec, [*HALF_SEEN, *dear], start=START, until=at(60))
    assert found.verdict is VerdictKind.BLIND
    assert [breach.budget for breach in found.breaches] == [cost.id]
    assert f"{P50.id} was not judged" in found.sentence
    assert found.breaches[0].sentence in found.sentence
    assert next_step(spec, found, round_=1, rounds=4) is NextStep.ASK
    seen = evaluate(spec, [*both([100.0] * 60), *both([100.0] * 60, metric="p50"), *dear], start=START)
    assert next_step(spec, seen, round_=1, rounds=4) is NextStep.PROMOTE


def test_a_decision_to_go_on_is_about_the_budgets_that_were_not_judged() -> None:
    spec = rollout(P95, P50, minutes=60)
    found = evaluate(spec, HALF_SEEN, start=START, until=at(60))
    assert found.to_be_decided == (P50.id,)
    restarts = [Restart(budget, at(61)) for budget in found.to_be_decided]
    again = evaluate(spec, HALF_SEEN, start=START, until=at(60), restarts=restarts)
    assert again.verdict is VerdictKind.HEALTHY


def test_before_the_windows_end_it_is_said_and_ends_nothing() -> None:
    spec = rollout(P95, P50, minutes=120)
    found = evaluate(spec, HALF_SEEN, start=START, until=at(60))
    assert (found.verdict, found.final) == (VerdictKind.HEALTHY, False)
    assert found.sentence == (
        f"every other budget of {spec.release} was kept; {P50.id} was not judged, it could not be read for"
        " 55 min, since 2026-10-01 12:05:00 UTC"
    )


def test_a_hole_that_is_over_is_no_reason() -> None:
    spec = rollout(P95, P50, minutes=60)
    samples = both([100.0] * 60) + both([100.0] * 5 + [None] * 40 + [100.0] * 15, metric="p50")
    assert evaluate(spec, samples, start=START).verdict is VerdictKind.HEALTHY


def test_where_blindness_shall_go_on_it_goes_on_and_is_said() -> None:
    spec = rollout(P95, P50, minutes=60, watch=Watch(on_blind=OnBlind.CONTINUE))
    found = evaluate(spec, NEVER_SEEN, start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert f"{P50.id} was not judged" in found.sentence
    assert "every other budget" in found.sentence


def test_a_budget_that_is_suspended_to_the_end_needs_no_judgement() -> None:
    spec = rollout(P95, P50, minutes=60)
    hold = Suspension(budget=P50.id, since=at(5), until=at(61), by="casey", reason="a load test")
    found = evaluate(spec, HALF_SEEN, start=START, suspensions=[hold])
    assert found.verdict is VerdictKind.HEALTHY


def test_a_budget_that_is_used_up_without_evidence_is_said() -> None:
    rule = budget(minutes=5, method=Method.SIGN)
    values = [100.0] * 53 + [130.0] * 7
    found = evaluate(rollout(rule, minutes=60), both(values), start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert found.budgets[0].is_used_up
    assert f"{rule.id} is exhausted, and the evidence insufficient (p = " in found.sentence
    assert "more at this traffic" in found.sentence or "does not grow at this traffic" in found.sentence
