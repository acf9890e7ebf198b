"""After a rollback: does what was breached recover, and is the baseline itself healthy?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rollback_budget.engine.evaluation import Breach, Comparand
from rollback_budget.engine.sample import Sample
from rollback_budget.model.budget import Budget, Comparison, Tier, Worse
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.verification import baseline_levels, baseline_problems, recovery_of
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, rollout
from tests.support.rollouts import make_breach

pytestmark = pytest.mark.pure

P95 = budget()
SLOW = budget("p95", Comparison.ABOVE, 2.0)
INCIDENTS = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, tier=Tier.A)
SUCCESS = budget("success", Comparison.DELTA_PCT, -2.0, worse=Worse.LOWER)


def breach_of(rule: Budget, baseline: float | None = 1.0) -> Breach:
    both = Comparand(delta=31.0, release_value=1.3, baseline_value=baseline)
    return make_breach(budget=rule.id, metric=rule.metric, comparison=rule.comparison, over_burn=both)


def serving(metric: str, *values: float, n: float | None = 100.0, version: str = BASELINE) -> list[Sample]:
    return [Sample(at(minute), metric, version, value, n) for minute, value in enumerate(values, 1)]


def recovery(rule: Budget, samples: list[Sample], **breach: Any) -> tuple[bool | None, bool, str]:
    spec = rollout(rule)
    found = recovery_of(spec, [breach_of(rule, **breach)], samples, START, START + timedelta(minutes=10))
    assert found is not None
    return found.good, found.knowable, found.said


@pytest.mark.parametrize(
    ("rule", "value", "good"),
    [(P95, 1.1, True), (P95, 1.4, False), (SLOW, 1.9, True), (SLOW, 2.5, False), (SUCCESS, 0.99, True)],
)
def test_what_serves_is_held_against_the_baseline_at_the_breach_or_the_budget(
    rule: Budget, value: float, good: bool
) -> None:
    assert recovery(rule, serving(rule.metric, value, value))[:2] == (good, True)


def test_looks_are_weighed_by_their_requests() -> None:
    busy = [*serving("p95", 1.0, n=900.0), Sample(at(2), "p95", BASELINE, 2.0, 100.0)]
    good, _, said = recovery(P95, busy)
    assert good
    assert "1.1" in said


def test_too_few_samples_may_still_become_enough_and_a_breach_without_values_never_does() -> None:
    assert recovery(P95, [])[:2] == (None, True)
    assert recovery(P95.model_copy(update={"min_samples": 500}), serving("p95", 1.0))[:2] == (None, True)
    assert recovery(P95, serving("p95", 1.0), baseline=None)[:2] == (None, False)


def test_incidents_recover_when_the_release_adds_none() -> None:
    still = serving("incidents", 0.0) + serving("incidents", 1.0, n=3.0, version=RELEASE)
    assert recovery(INCIDENTS, serving("incidents", 3.0))[0] is True
    assert recovery(INCIDENTS, still)[0] is False


def test_a_metric_that_comes_late_says_that_its_recovery_cannot_be_known_at_once() -> None:
    hours = {"p95": Metric(every=timedelta(hours=1), lag=timedelta(hours=2))}
    spec = rollout(P95, metrics=hours)
    found = recovery_of(spec, [breach_of(P95)], serving("p95", 1.0), START, START + timedelta(minutes=10))
    assert found is not None
    assert (found.good, found.knowable) == (None, False)
    assert found.said == "whether p95 recovers cannot be known at once: a value is up to 3 h late"


def test_nothing_breached_is_nothing_to_recover() -> None:
    assert recovery_of(rollout(), [], serving("p95", 9.0), START, at(10)) is None


def problems(spec: RolloutSpec, value: float, before: dict[str, float]) -> list[str]:
    return baseline_problems(spec, serving("p95", value), START, at(10), before)


def test_a_baseline_beyond_its_budgets_or_its_past_is_said() -> None:
    assert problems(rollout(SLOW), 2.5, {}) == ["p95 of model-v41 is 2.5, beyond p95_above +2"]
    assert problems(rollout(P95), 1.4, {"p95": 1.0}) == [
        "p95 of model-v41 is 1.4, 1 before the rollout, beyond p95_delta_pct +15"
    ]
    assert problems(rollout(P95), 1.4, {}) == []
    assert problems(rollout(P95, SLOW), 1.1, {"p95": 1.0}) == []


def test_the_baselines_values_leave_out_what_is_unknown() -> None:
    spec = rollout(P95, SUCCESS)
    samples = serving("p95", 1.0, 3.0) + serving("success", float("nan"))
    assert baseline_levels(spec, samples, START, at(10)) == {"p95": 2.0}
