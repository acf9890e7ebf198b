"""A quantile beyond the largest bound of its histogram: what is certain is used, the rest is unknown."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Sample, Status, VerdictKind, evaluate
from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.histogram import Quantile, read_quantile
from rollback_budget.engine.threshold_tolerance import certain, threshold_of
from rollback_budget.model.budget import Budget, Comparison, Method, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, property_test, rollout

pytestmark = pytest.mark.pure

BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)
METRICS = {name: Metric(kind=MetricKind.QUANTILE, unit="s") for name in ("p95", "p50")}


def histograms(version: str, seconds: list[float], minutes: int, metric: str = "p95") -> list[Sample]:
    """The same requests in every minute."""
    return [
        Sample(at(minute), metric, version, float(sum(one <= bound for one in seconds)), None, bound)
        for minute in range(1, minutes + 1)
        for bound in (*BOUNDS, inf)
    ]


def requests(*, hanging: int, usual: float = 8.0) -> list[float]:
    """A hundred requests, some of which hang for five minutes."""
    return [300.0] * hanging + [usual] * (100 - hanging)


def samples(release: list[float], baseline: list[float], minutes: int = 90) -> list[Sample]:
    return histograms(RELEASE, release, minutes) + histograms(BASELINE, baseline, minutes)


@pytest.mark.parametrize("method", [Method.THRESHOLD, Method.AUTO])
def test_one_request_in_ten_that_hangs_beyond_the_largest_bound_is_a_breach(method: Method) -> None:
    rules = (budget(method=method), budget("p50", threshold=50.0))
    spec = rollout(*rules, metrics=METRICS, minutes=90)
    found = samples(requests(hanging=10), requests(hanging=0))
    found += histograms(RELEASE, requests(hanging=10), 90, "p50")
    found += histograms(BASELINE, requests(hanging=0), 90, "p50")
    (breach,) = evaluate(spec, found, start=START).breaches
    assert breach.budget == rules[0].id
    assert "p95 was at least" in breach.sentence
    assert "more than 60.0 s against" in breach.sentence
    assert breach.over_burn.release_is_least
    assert all(look.release_is_least for look in breach.samples)


def test_an_absolute_line_below_the_largest_bound_is_crossed_whatever_lies_beyond_it() -> None:
    spec = rollout(budget("p95", Comparison.ABOVE, 50.0, minutes=15), metrics=METRICS)
    (breach,) = evaluate(spec, samples(requests(hanging=10), requests(hanging=0)), start=START).breaches
    assert "p95 was more than 60.0 s" in breach.sentence


@pytest.mark.parametrize(
    ("release", "baseline", "status"),
    [
        (requests(hanging=0), requests(hanging=10), Status.GOOD),
        (requests(hanging=10), requests(hanging=10), Status.UNKNOWN),
        # At least 60 s against 52.5 s may be 14 % more, or twice as much.
        (requests(hanging=10), requests(hanging=0, usual=55.0), Status.UNKNOWN),
    ],
    ids=["the baseline is slower", "both are beyond", "perhaps within the budget"],
)
def test_what_is_not_certain_is_unknown(release: list[float], baseline: list[float], status: Status) -> None:
    spec = rollout(budget(), metrics=METRICS)
    found = evaluate(spec, samples(release, baseline, 10), start=START, until=at(10))
    (line,) = found.budgets
    assert line.look is not None
    assert line.look.status is status
    assert (line.look.delta is None) is (status is Status.UNKNOWN)


def test_a_window_in_which_both_versions_lie_beyond_the_largest_bound_is_blind() -> None:
    spec = rollout(budget(), metrics=METRICS)
    both = samples(requests(hanging=10), requests(hanging=10))
    found = evaluate(spec, both, start=START)
    assert found.verdict is VerdictKind.BLIND
    assert "p95 lies beyond the largest bound of its histogram" in found.sentence


def test_a_histogram_with_no_finite_bound_tells_nothing() -> None:
    assert read_quantile({inf: 10.0}, 0.95) == Quantile(pytest.approx(float("nan"), nan_ok=True), False)


VALUES = st.floats(0.01, 1e6)
COMPARISONS = [*DELTA_FORMULAS]


@property_test
@given(
    st.sampled_from(COMPARISONS),
    st.sampled_from(list(Worse)),
    st.floats(-80, 200),
    st.tuples(VALUES, VALUES),
    st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
    st.integers(0, 3),
)
def test_a_status_that_is_taken_for_certain_holds_whatever_the_values_are(
    comparison: Comparison,
    worse: Worse,
    threshold: float,
    least_values: tuple[float, float],
    more: tuple[float, float],
    least: int,
) -> None:
    rule: Budget = budget("p95", comparison, threshold, worse=worse, tier=Tier.B)
    true = tuple(
        value + extra * bool(least & bit)
        for value, extra, bit in zip(least_values, more, (1, 2), strict=True)
    )

    def status_of(values: tuple[float, ...]) -> Status:
        delta = DELTA_FORMULAS[comparison].delta([values[0]], [values[1]])[0]
        return threshold_of(rule).status(rule, delta, values[0], values[1])

    found = certain(rule, status_of(least_values), least)
    assert found in (Status.UNKNOWN, status_of(true))
