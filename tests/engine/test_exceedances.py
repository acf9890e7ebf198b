"""Quantiles by counting requests beyond a bound, from cumulative histograms."""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from random import Random

import pytest

from rollback_budget.engine import Sample, Status, VerdictKind, evaluate, frame_of
from rollback_budget.engine.comparison import View
from rollback_budget.engine.exceedances import ExceedanceStatistic
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import quantile_in, quantile_of
from rollback_budget.engine.null_boundary import Counts, NullBoundary, log_evidence
from rollback_budget.model.budget import Method
from rollback_budget.model.method_plan import blocks_of
from rollback_budget.model.metric import Metric, MetricKind
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, rollout

pytestmark = pytest.mark.pure

RULE = budget(minutes=20, method=Method.AUTO)
SPEC = rollout(RULE, metrics={"p95": Metric(kind=MetricKind.QUANTILE, unit="s")})
FINE = [0.1 * 1.05**k for k in range(90)]
COARSE = [0.5, 1.0, 2.0, 4.0]


def latencies(random: Random, factor: float, n: int = 200) -> list[float]:
    return [factor * random.lognormvariate(0.0, 0.5) for _ in range(n)]


def counted(raw: list[float], bounds: list[float]) -> dict[float, float]:
    ordered = sorted(raw)
    return {bound: float(bisect_right(ordered, bound)) for bound in (*bounds, inf)}


def recorded(minutes: int, bounds: list[float], factor: float, seed: int = 5) -> list[Sample]:
    random = Random(seed)
    return [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, minutes + 1)
        for version, slower in ((RELEASE, factor), (BASELINE, 1.0))
        for bound, count in counted(latencies(random, slower), bounds).items()
    ]


def test_a_slower_release_breaches_on_its_histograms_and_a_harmless_one_does_not() -> None:
    (breach,) = evaluate(SPEC, recorded(400, FINE, 1.35), start=START).breaches
    assert breach.method is Method.SEQUENTIAL
    assert breach.breached_at <= at(60)
    assert breach.delta == pytest.approx(35, abs=12)
    for factor in (1.0, 1.05):
        harmless = evaluate(SPEC, recorded(400, FINE, factor), start=START, until=at(400))
        assert harmless.verdict is VerdictKind.HEALTHY
        assert harmless.budgets[0].method is Method.SEQUENTIAL


def test_a_histogram_that_is_coarser_than_the_threshold_leaves_the_sign_of_its_quantiles() -> None:
    snapshot = evaluate(SPEC, recorded(30, COARSE, 1.0), start=START).budgets[0]
    assert snapshot.method is Method.SIGN
    assert "the histogram is coarser than the threshold" in snapshot.method_reason
    assert snapshot.look is not None
    assert snapshot.look.status is not Status.UNKNOWN


def test_counts_from_histograms_and_from_raw_latencies_give_the_same_evidence() -> None:
    random = Random(9)
    past, baseline, release = (latencies(random, factor, 600) for factor in (1.0, 1.0, 1.4))
    exceedances = ExceedanceStatistic(RULE, SPEC, blocks_of(SPEC, RULE))
    by_look = [counted(past, FINE), counted(baseline, FINE)], [counted(past, FINE), counted(release, FINE)]
    arms = Arms([1.0] * 2, [600.0] * 2, [1.0] * 2, [600.0] * 2, by_look[1], by_look[0])
    exceedances.add(View(arms, [0.0] * 2, [Status.GOOD] * 2), 0, 2, 0)
    wanted = 1.075 * quantile_in(counted(past, FINE), 0.95)
    beyond_t = min(bound for bound in FINE if bound >= wanted)
    beyond_c = max(bound for bound in FINE if bound <= beyond_t / 1.075)
    slow = sum(value > beyond_c for value in past)
    counts = Counts(
        sum(value > beyond_c for value in baseline), 600, sum(value > beyond_t for value in release), 600
    )
    rate = (slow + 0.5) / 601
    assert exceedances.close(0) == log_evidence(counts, rate, NullBoundary(0.0, 1.0), rate)


def test_the_value_of_a_look_is_read_from_its_histogram_where_it_has_no_other() -> None:
    samples = recorded(1, FINE, 1.0)
    arms = frame_of(SPEC, samples, start=START, end=START + MINUTE).arms["p95"]
    assert arms.release_n == [200.0]
    assert arms.release[0] == pytest.approx(sorted(latencies(Random(5), 1.0))[190], rel=0.08)
    own = [*samples, Sample(at(1), "p95", RELEASE, 9.0, 5.0)]
    assert frame_of(SPEC, own, start=START, end=START + MINUTE).arms["p95"].release == [9.0]


@pytest.mark.parametrize(
    ("name", "level"), [("p95", 0.95), ("latency_p99:de", 0.99), ("p999", 0.999), ("speed", None)]
)
def test_a_metric_says_by_its_name_which_quantile_it_is(name: str, level: float | None) -> None:
    assert quantile_of(name) == level


@pytest.mark.parametrize("counts", [(0.0, 0.0), (0.0, 10.0), (10.0, 10.0), (1e9, 1e9)])
def test_empty_and_extreme_histograms_bring_no_breach_and_no_error(counts: tuple[float, float]) -> None:
    samples = [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, 90)
        for version in (RELEASE, BASELINE)
        for bound, count in zip((1.0, inf), counts, strict=True)
    ]
    assert not evaluate(SPEC, samples, start=START, until=at(14)).breaches
