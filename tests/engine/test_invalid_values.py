"""What cannot be a value of its kind is unknown, with its reason; other metrics are read all the same."""

from __future__ import annotations

from math import inf

import pytest

from rollback_budget.engine import Sample, Status, VerdictKind, evaluate
from rollback_budget.engine.preflight_forecast import forecast_watch
from rollback_budget.model.budget import Comparison, Worse
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, RELEASE, START, arm, at, both, budget, rollout

pytestmark = pytest.mark.pure

METRICS = {
    "success": Metric(kind=MetricKind.PROPORTION),
    "incidents": Metric(kind=MetricKind.COUNT),
    "p95": Metric(kind=MetricKind.QUANTILE, unit="s"),
}
SUCCESS = budget("success", Comparison.DELTA_PP, -2.0, worse=Worse.LOWER, area="quality")
INCIDENTS = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety")
P95 = budget("p95")
MINUTES = 40


def percent(value: float) -> list[Sample]:
    return both([value] * MINUTES, baseline=90.0, metric="success", n=100)


def buckets(counts: dict[float, float]) -> list[Sample]:
    return [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, MINUTES + 1)
        for version in (RELEASE, BASELINE)
        for bound, count in counts.items()
    ]


CASES = [
    (SUCCESS, percent(70.0), "a proportion lies between 0 and 1"),
    (SUCCESS, both([-0.2] * MINUTES, baseline=0.9, metric="success"), "came with -0.2, and a proportion"),
    (SUCCESS, both([0.9] * MINUTES, baseline=0.9, metric="success", n=-5), "came with n = -5"),
    (INCIDENTS, both([-1.0] * MINUTES, baseline=0.0, metric="incidents"), "events are never fewer than 0"),
    (P95, buckets({1.0: 10.0, 2.0: 20.0}), "ends at 2 without a bucket `+Inf`"),
    (P95, buckets({1.0: 10.0, 2.0: 4.0, inf: 20.0}), "not cumulative: 10 events of at most 1, and 4"),
]


@pytest.mark.parametrize(("line", "samples", "reason"), CASES)
def test_it_is_unknown_and_then_blind_with_the_reason(
    line: object, samples: list[Sample], reason: str
) -> None:
    spec = rollout(line, metrics=METRICS)  # type: ignore[arg-type]
    found = evaluate(spec, samples, start=START)
    assert found.verdict is VerdictKind.BLIND
    assert reason in found.sentence
    (seen,) = found.budgets
    assert seen.look is not None
    assert seen.look.status is Status.UNKNOWN
    assert seen.invalid_looks == seen.looks
    assert reason in (seen.invalid or "")


@pytest.mark.parametrize(("line", "samples", "reason"), CASES)
def test_preflight_calls_it_an_error(line: object, samples: list[Sample], reason: str) -> None:
    spec = rollout(line, metrics=METRICS)  # type: ignore[arg-type]
    (forecast,) = forecast_watch(spec, samples, start=START, end=at(MINUTES)).budgets
    assert any(reason in error for error in forecast.errors)


def test_one_invalid_look_costs_its_metric_that_look_and_nothing_else() -> None:
    spec = rollout(SUCCESS, P95, metrics=METRICS)
    values = [0.9] * 10 + [90.0] + [0.9] * 29
    samples = both(values, baseline=0.9, metric="success", n=100) + both([1.0] * MINUTES, baseline=1.0)
    success, p95 = evaluate(spec, samples, start=START, until=at(MINUTES)).budgets
    assert (success.unknown_looks, success.invalid_looks, p95.unknown_looks) == (1, 1, 0)


def test_versions_whose_histograms_have_other_bounds_are_compared_on_those_that_both_have() -> None:
    fine = {bound: float(round(10 * bound)) for bound in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)}
    coarse = {bound: fine[bound] for bound in (2.0, 4.0)}
    samples = [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, MINUTES + 1)
        for version, counts in ((RELEASE, coarse), (BASELINE, fine))
        for bound, count in {**counts, inf: 40.0}.items()
    ]
    spec = rollout(P95, metrics=METRICS)
    found = evaluate(spec, samples, start=START, until=at(MINUTES))
    assert found.verdict is VerdictKind.HEALTHY
    (seen,) = found.budgets
    assert seen.look is not None
    assert seen.look.release_value == seen.look.baseline_value
    (forecast,) = forecast_watch(spec, samples, start=START, end=at(MINUTES)).budgets
    assert any("compared on those that both have: 3 of 8" in warning for warning in forecast.warnings)


def test_a_quantile_of_fewer_requests_than_it_takes_is_unknown_beside_a_baseline() -> None:
    spec = rollout(P95, metrics=METRICS)
    few = arm(RELEASE, [7.0] * MINUTES, n=10) + arm(BASELINE, [2.0] * MINUTES, n=3)
    found = evaluate(spec, few, start=START)
    assert found.verdict is VerdictKind.BLIND
    assert "p95 needs 20 events of each version a look, and 3 came" in found.sentence
    enough = arm(RELEASE, [7.0] * MINUTES, n=20) + arm(BASELINE, [2.0] * MINUTES, n=20)
    assert evaluate(spec, enough, start=START).verdict is VerdictKind.BREACH


def test_how_many_requests_a_quantile_needs_does_not_depend_on_another_metrics_histogram() -> None:
    p99 = budget("p99", threshold=1000.0)
    metrics = {**METRICS, "p99": Metric(kind=MetricKind.QUANTILE, unit="s")}
    few = arm(RELEASE, [7.0] * MINUTES, n=5) + arm(BASELINE, [2.0] * MINUTES, n=5)
    # The histogram of the other one comes every second minute, in the same looks.
    other = [one._replace(series="p99") for one in buckets({2.0: 95.0, 3.0: 100.0, inf: 100.0})][::2]
    for samples in (few, few + other):
        found = evaluate(rollout(P95, p99, metrics=metrics), samples, start=START, until=at(MINUTES))
        assert found.budgets[0].unknown_looks == found.budgets[0].looks


@pytest.mark.parametrize(
    ("bad", "is_error"), [({7}, False), (set(range(1, 31)), True)], ids=["a restart", "how it is"]
)
def test_a_histogram_that_cannot_be_read_now_and_then_is_a_warning_and_mostly_an_error(
    bad: set[int], is_error: bool
) -> None:
    good = buckets({1.0: 90.0, 2.0: 100.0, inf: 100.0})
    samples = [
        one._replace(value=40.0) if one.le == 2.0 and one.time in {at(k) for k in bad} else one
        for one in good
    ]
    (forecast,) = forecast_watch(rollout(P95, metrics=METRICS), samples, start=START, end=at(MINUTES)).budgets
    assert any("not cumulative" in said for said in forecast.errors) is is_error
    assert any("not cumulative" in said for said in forecast.warnings) is not is_error


def test_a_version_without_traffic_whose_query_makes_0_of_nothing_is_a_warning() -> None:
    idle = both([0.0] * MINUTES, baseline=2.0)
    (forecast,) = forecast_watch(rollout(P95, metrics=METRICS), idle, start=START, end=at(MINUTES)).budgets
    assert forecast.errors == ()
    assert any("came with exactly 0 and no count" in said for said in forecast.warnings)


def test_a_quantile_of_exactly_0_without_a_count_is_no_latency() -> None:
    spec = rollout(P95, metrics=METRICS)
    idle = both([2.0] * MINUTES, baseline=0.0)
    found = evaluate(spec, idle, start=START)
    assert found.verdict is VerdictKind.BLIND
    assert "model-v41 came with exactly 0 and no count" in found.sentence
    counted = both([2.0] * MINUTES, baseline=0.0, n=50)
    (seen,) = evaluate(spec, counted, start=START, until=at(MINUTES)).budgets
    assert seen.invalid_looks == 0


def test_percent_and_milliseconds_are_scaled_to_the_unit_of_their_metric() -> None:
    metrics = {
        "success": Metric(kind=MetricKind.PROPORTION, scale=0.01),
        "p95": Metric(kind=MetricKind.QUANTILE, unit="s", scale=0.001),
    }
    milliseconds = [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, MINUTES + 1)
        for version in (RELEASE, BASELINE)
        for bound, count in {500.0: 90.0, 1000.0: 100.0, inf: 100.0}.items()
    ]
    spec = rollout(SUCCESS, P95, metrics=metrics)
    found = evaluate(spec, percent(70.0) + milliseconds, start=START)
    (breach,) = found.breaches
    assert "70.0 % against 90.0 %" in breach.sentence
    assert found.budgets[1].look is not None
    assert found.budgets[1].look.release_value == pytest.approx(0.75)
