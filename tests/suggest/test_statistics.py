"""The statistics of a record: intervals, blocks, noise, clusters and changes."""

from __future__ import annotations

from math import inf, sqrt
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import quantile_in
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Comparison, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.suggest.block_length import block_length
from rollback_budget.suggest.change import change_in
from rollback_budget.suggest.harm import harmed, slower
from rollback_budget.suggest.interval import rate_of
from rollback_budget.suggest.noise import Clustering, clustering_of, noise_of
from rollback_budget.suggest.record import record_of
from tests.suggest.records import BASELINE, DAY, MINUTE, RELEASE, START, by_look, points, rollout, traffic
from tests.support.examples import examples

pytestmark = pytest.mark.pure


def test_the_interval_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    assert (rate_of(81, 263).low, rate_of(81, 263).high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert (rate_of(0, 20).low, rate_of(0, 20).high) == pytest.approx((0.0, 0.1611), abs=1e-4)


@given(windows=st.integers(1, 10_000), part=st.floats(0, 1))
@examples(60)
def test_a_rate_lies_in_its_interval(windows: int, part: float) -> None:
    rate = rate_of(round(part * windows), windows)
    assert 0.0 <= rate.low <= rate.rate <= rate.high <= 1.0


def autoregression(memory: float, length: int, seed: int) -> list[float]:
    random, values = Random(seed), [0.0]
    while len(values) < length:
        values.append(memory * values[-1] + random.gauss(0.0, 1.0))
    return values


def test_blocks_are_as_long_as_theory_has_them_for_a_known_correlation() -> None:
    memory, length = 0.9, 10_080
    # Of an AR(1): G / g(0) = 2 memory / (1 - memory²) (Politis and White 2004, section 3.3).
    ideal = (2 * (2 * memory / (1 - memory**2)) ** 2 / (4 / 3) * length) ** (1 / 3)
    found = mean(block_length(autoregression(memory, length, seed)) for seed in range(5))
    assert found == pytest.approx(ideal, rel=0.25)
    assert mean(block_length(autoregression(0.0, length, seed)) for seed in range(5)) < 10
    assert block_length([0.5] * 500) == 1.0


def test_the_noise_of_independent_requests_is_binomial() -> None:
    noise = noise_of(record_of(rollout(), traffic()), points())
    spread = 100 * sqrt(2 * 0.9 * 0.1 / 30)
    assert (noise.looks, noise.known, noise.release_events, noise.baseline_events) == (DAY, DAY, 30, 30)
    assert noise.spread_of_look == pytest.approx(spread, rel=0.1)
    assert noise.spread_of_duration == pytest.approx(spread / sqrt(20), rel=0.25)
    assert noise.daily_cycle is None


def test_a_daily_cycle_is_seen_where_days_repeat_it_and_not_in_noise() -> None:
    def of(minute: int, version: str) -> tuple[float, float | None]:
        day = 0.85 if minute % DAY < DAY // 2 else 0.95
        return day + 0.02 * ((minute * 7919 + len(version)) % 13 - 6) / 6, 30.0

    record = record_of(rollout(), by_look(of, 3 * DAY))
    assert noise_of(record, points()).daily_cycle == pytest.approx(0.1, abs=0.01)
    plain = record_of(rollout(), traffic(3 * DAY, n=10))
    assert noise_of(plain, points()).daily_cycle is None


def test_clusters_are_told_from_independent_requests() -> None:
    independent = [clustering_of(record_of(rollout(), traffic(seed=seed)), points()) for seed in range(6)]
    assert sum(found is not None and found.is_sure for found in independent) <= 1
    clustered = clustering_of(record_of(rollout(), traffic(2 * DAY, wander=0.04)), points())
    assert clustered is not None
    assert clustered.is_sure
    # Ten minutes of a level of their own among 30 requests a minute.
    assert clustered.design_effect == pytest.approx(1 + 0.04**2 * 10 * 30 / 0.09, rel=0.4)
    assert clustered.careful > clustered.design_effect


@pytest.mark.parametrize(("effect", "is_sure"), [(1.37, False), (1.52, False), (1.58, True), (6.0, True)])
def test_a_design_effect_is_sure_where_1_lies_more_than_two_of_the_said_errors_below(
    effect: float, is_sure: bool
) -> None:
    found = Clustering(design_effect=effect, relative_error=0.18)
    assert found.is_sure is is_sure
    assert (found.design_effect - 2.0 * found.standard_error > 1.0) is is_sure
    assert found.careful == pytest.approx(effect + found.standard_error)


def latency() -> list[Sample]:
    random, samples = Random(4), []
    bounds = [0.5 * 1.1**step for step in range(30)]
    for minute in range(1, DAY + 1):
        for version in (RELEASE, BASELINE):
            slow = [random.lognormvariate(0.0, 0.5) for _ in range(20)]
            for bound in (*bounds, inf):
                count = float(sum(value <= bound for value in slow))
                samples.append(Sample(START + minute * MINUTE, "p95", version, count, None, bound))
    return samples


def test_requests_beyond_a_bound_have_a_design_effect_too() -> None:
    budget = points(
        15.0,
        metric="p95",
        comparison=Comparison.DELTA_PCT,
        worse=Worse.HIGHER,
        id="latency.p95",
        area="latency",
    )
    spec = rollout(budget, metrics={"p95": Metric(kind=MetricKind.QUANTILE)})
    found = clustering_of(record_of(spec, latency()), budget)
    assert found is not None
    assert found.design_effect == pytest.approx(1.0, abs=0.6)


def test_without_counts_there_is_no_design_effect() -> None:
    record = record_of(rollout(), by_look(lambda minute, _: (0.9 + 0.001 * (minute % 7), None)))
    with pytest.raises(SeriesError, match="0 steps with counts"):
        clustering_of(record, points())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda minute: -0.05 if minute > DAY // 2 else 0.0, "a shift or a drift far beyond noise"),
        (lambda minute: -0.08 * minute / DAY, "a shift or a drift far beyond noise"),
        (lambda _: -0.03, "all the time, far beyond noise"),
    ],
)
def test_a_shift_a_drift_and_a_difference_between_the_versions_are_named(change: object, said: str) -> None:
    record = record_of(rollout(), traffic(change=change))  # type: ignore[arg-type]
    found = change_in(record, points())
    assert found is not None
    assert said in found


def test_the_moment_of_a_shift_is_named() -> None:
    record = record_of(rollout(), traffic(change=lambda minute: -0.06 if minute > 720 else 0.0))
    assert "from about 2026-10-01 12:0" in (change_in(record, points()) or "")


def test_clustered_noise_and_a_drift_of_both_versions_are_no_change() -> None:
    for seed in range(5):
        assert change_in(record_of(rollout(), traffic(seed=seed, wander=0.03)), points()) is None

    def of(minute: int, version: str) -> tuple[float, float | None]:
        return 0.95 - 0.1 * minute / DAY + 0.01 * ((minute * 31 + len(version)) % 5), 30.0

    assert change_in(record_of(rollout(), by_look(of)), points()) is None


def test_harm_takes_whole_events_and_is_right_on_average() -> None:
    n, looks = 7.0, 4000
    arms = Arms([6 / 7] * looks, [n] * looks, [0.9] * looks, [n] * looks)
    worse = harmed(rollout(), points(), arms, 2.0, Random(1))
    assert mean(worse.release) == pytest.approx(6 / 7 - 0.04, abs=0.003)
    assert all(abs(value * n - round(value * n)) < 1e-9 for value in worse.release)
    assert worse.baseline == arms.baseline


@given(factor=st.floats(1.0, 4.0), counts=st.lists(st.integers(0, 50), min_size=12, max_size=12))
@examples(60)
def test_slower_requests_have_a_histogram_that_is_cumulative_and_no_sooner_done(
    factor: float, counts: list[int]
) -> None:
    bounds, total, histogram = [0.1 * 1.5**step for step in range(11)], 0.0, {}
    for bound, count in zip([*bounds, inf], counts, strict=True):
        total += count
        histogram[bound] = total
    later = slower(histogram, factor)
    assert list(later.values()) == sorted(later.values())
    assert all(later[bound] <= histogram[bound] for bound in histogram)
    assert later[inf] == total
    assert slower(histogram, 1.0) == pytest.approx(histogram)


def test_a_quantile_of_slower_requests_is_larger_by_as_much() -> None:
    histogram = {0.1 * step: 10.0 * step for step in range(1, 41)} | {inf: 400.0}
    now = slower(histogram, 1.5)
    assert quantile_in(now, 0.5) == pytest.approx(1.5 * quantile_in(histogram, 0.5), rel=0.02)
