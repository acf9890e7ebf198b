"""Histograms of two versions with other bounds: what both can tell decides, the rest is unknown and said."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import pytest

from rollback_budget.engine import Evaluation, Sample, Status, VerdictKind, evaluate
from rollback_budget.model.budget import Comparison, Method
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, rollout

pytestmark = pytest.mark.pure

METRICS = {"p95": Metric(kind=MetricKind.QUANTILE, unit="s")}
FINE = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 11.0, 15.0, 60.0, inf)
COARSE = (60.0, inf)
P95 = budget()


def minute_of(
    version: str, minute: int, seconds: float, bounds: Iterable[float] = FINE, n: int = 100
) -> list[Sample]:
    """``n`` requests, evenly from 0 to ``seconds``."""
    return [
        Sample(at(minute), "p95", version, float(round(n * min(bound / seconds, 1.0))), None, bound)
        for bound in bounds
    ]


def watched(
    rule: object,
    *,
    slow_from: int = 1000,
    slow: float = 11.0,
    usual: float = 3.0,
    release: Iterable[float] = FINE,
    baseline: Iterable[float] = FINE,
    coarse_at: tuple[str, int] = ("", 0),
    minutes: int = 90,
) -> Evaluation:
    samples = []
    for minute in range(1, minutes + 1):
        for version, bounds in ((RELEASE, release), (BASELINE, baseline)):
            is_slow = version == RELEASE and minute >= slow_from
            now = COARSE if coarse_at == (version, minute) else bounds
            samples += minute_of(version, minute, slow if is_slow else usual, now)
    spec = rollout(rule, metrics=METRICS, minutes=minutes)  # type: ignore[arg-type]
    return evaluate(spec, samples, start=START, until=at(minutes))


@pytest.mark.parametrize("version", [RELEASE, BASELINE])
@pytest.mark.parametrize("minute", [5, 40])
def test_one_look_with_other_bounds_costs_that_look_and_not_the_evidence(version: str, minute: int) -> None:
    rule = budget(threshold=50.0, minutes=20, method=Method.AUTO)
    whole = watched(rule, slow_from=30)
    found = watched(rule, slow_from=30, coarse_at=(version, minute))
    assert (whole.verdict, found.verdict) == (VerdictKind.BREACH, VerdictKind.BREACH)
    late = found.breaches[0].breached_at - whole.breaches[0].breached_at
    assert late <= 2 * rule.max_duration


def test_an_absolute_line_is_held_against_the_releases_own_bounds() -> None:
    found = watched(budget("p95", Comparison.ABOVE, 8.0), baseline=COARSE)
    assert found.verdict is VerdictKind.HEALTHY
    assert found.budgets[0].unknown_looks == 0


def test_bounds_that_tell_nothing_are_no_sign_of_health() -> None:
    found = watched(P95, release=COARSE)
    assert found.verdict is VerdictKind.BLIND
    assert "have other bounds, and are compared on those that both have: 2 of 14" in found.sentence
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("slow", "bounds", "status"),
    [
        # Both lie between the same bounds, wherever they are.
        (3.0, (2.5, 3.0, 60.0, inf), Status.GOOD),
        # More than 8 s against at most 3 s.
        (11.0, (2.0, 4.0, 8.0, 60.0, inf), Status.BAD),
        # Between 2 and 4 s against 2.5 to 3 s.
        (3.0, (2.0, 4.0, 8.0, 60.0, inf), Status.UNKNOWN),
        # More than 8 s, and the histogram ends there.
        (11.0, (2.0, 4.0, 8.0, inf), Status.BAD),
    ],
)
@pytest.mark.parametrize("comparison", [Comparison.DELTA_PCT, Comparison.DELTA])
def test_what_is_certain_wherever_the_quantiles_lie_between_their_bounds_is_known(
    slow: float, bounds: tuple[float, ...], status: Status, comparison: Comparison
) -> None:
    threshold = 25.0 if comparison is Comparison.DELTA_PCT else 0.75
    rule = budget("p95", comparison, threshold)
    found = watched(rule, slow_from=0, slow=slow, release=bounds, minutes=10)
    (line,) = found.budgets
    assert line.look is not None
    assert line.look.status is status


def test_another_bound_far_from_the_quantile_changes_nothing() -> None:
    plain = watched(P95, slow_from=0, slow=3.2, minutes=10)
    found = watched(P95, slow_from=0, slow=3.2, release=(0.25, *FINE), minutes=10)
    assert found.budgets == plain.budgets
