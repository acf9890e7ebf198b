"""Worked examples of looks, burns, breaches and blindness."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import timedelta
from math import inf, nan

import pytest

from rollback_budget.engine import (
    Evaluation,
    Fold,
    Restart,
    Sample,
    Status,
    VerdictKind,
    Window,
    evaluate,
    frame_of,
)
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Comparison, Tier, Worse
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, both, budget, moved, rollout

pytestmark = pytest.mark.pure

INCIDENTS = budget(
    "incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", tier=Tier.A, min_samples=0
)


def test_a_duration_of_30_minutes_breaches_on_the_31st_bad_look() -> None:
    samples = both([100.0] * 9 + [120.0] * 31)
    assert evaluate(rollout(), samples[:-1], start=START, until=at(39)).verdict is VerdictKind.HEALTHY
    evaluation = evaluate(rollout(), samples, start=START)
    (breach,) = evaluation.breaches
    assert evaluation.verdict is VerdictKind.BREACH
    assert evaluation.final
    assert (breach.started_at, breach.breached_at, breach.burn) == (at(10), at(40), 30 * MINUTE)
    assert breach.delta == pytest.approx(20.0)
    assert [look.time for look in breach.samples] == [at(minute) for minute in range(10, 41)]


@pytest.mark.parametrize("comparison", [Comparison.DELTA_PCT, Comparison.DELTA_PP, Comparison.DELTA])
@pytest.mark.parametrize("baseline", [0.3, 0.7, 1.1, 1e-7, 123456.7])
def test_a_sample_at_the_threshold_is_good_whatever_floats_make_of_it(
    comparison: Comparison, baseline: float
) -> None:
    threshold = {
        Comparison.DELTA_PCT: 0.1,
        Comparison.DELTA_PP: 10.0 * baseline,
        Comparison.DELTA: 0.1 * baseline,
    }
    at_once = rollout(budget(comparison=comparison, threshold=threshold[comparison], minutes=0))
    factor = 1.001 if comparison is Comparison.DELTA_PCT else 1.1
    exactly = evaluate(at_once, both([baseline * factor], baseline=baseline), start=START)
    beyond = evaluate(at_once, both([baseline * factor * 1.00001], baseline=baseline), start=START)
    assert (exactly.verdict, beyond.verdict) == (VerdictKind.HEALTHY, VerdictKind.BREACH)


def test_equal_arms_that_differ_by_float_noise_are_good_at_a_threshold_of_zero() -> None:
    at_once = rollout(budget(comparison=Comparison.DELTA, threshold=0.0, minutes=0))
    assert evaluate(at_once, both([0.1 + 0.2], baseline=0.3), start=START).verdict is VerdictKind.HEALTHY


def test_bad_looks_around_a_short_hole_burn_through_it_and_around_a_long_one_do_not_reset() -> None:
    bad, hole = [120.0], [None]
    five = rollout(budget(minutes=5))
    bridged = evaluate(five, both(bad + 4 * hole + bad), start=START)
    assert bridged.breaches[0].breached_at == at(6)
    too_long = evaluate(five, both(3 * bad + 5 * hole + 3 * bad), start=START)
    assert too_long.verdict is VerdictKind.HEALTHY
    assert too_long.budgets[0].burn == 4 * MINUTE
    after = evaluate(five, both(3 * bad + 5 * hole + 4 * bad), start=START)
    assert (after.breaches[0].started_at, after.breaches[0].breached_at) == (at(1), at(12))


@pytest.mark.parametrize(("accounting", "burn"), [("consecutive", 1), ("cumulative", 3)])
def test_a_good_look_starts_the_burn_anew_or_only_pauses_it(accounting: str, burn: int) -> None:
    spec = rollout(budget(accounting=accounting))
    evaluation = evaluate(spec, both([120.0, 120.0, 120.0, 100.0, 120.0, 120.0]), start=START)
    assert evaluation.budgets[0].burn == burn * MINUTE


def test_a_relative_delta_over_zero_is_unknown_and_over_a_negative_baseline_up_is_still_up() -> None:
    at_once = rollout(budget(minutes=0))
    over_zero = evaluate(at_once, both([5.0], baseline=0.0), start=START)
    assert over_zero.budgets[0].look is not None
    assert over_zero.budgets[0].look.status is Status.UNKNOWN
    assert over_zero.budgets[0].look.delta is None
    assert evaluate(at_once, both([-8.0], baseline=-10.0), start=START).breaches[0].delta == pytest.approx(
        20.0
    )


@pytest.mark.parametrize("value", [nan, inf, -inf, 1e308])
def test_a_value_that_is_not_a_number_or_overflows_is_unknown(value: float) -> None:
    spec = rollout(budget(minutes=0), budget(minutes=0, worse=Worse.LOWER, threshold=-15.0))
    evaluation = evaluate(spec, both([value], baseline=1e-9), start=START)
    assert [snapshot.unknown_looks for snapshot in evaluation.budgets] == [1, 1]


def test_an_incident_whose_baseline_is_missing_counts_at_the_next_known_look() -> None:
    samples = arm(RELEASE, [0, 1, 0, 0], metric="incidents") + arm(
        BASELINE, [0, None, None, 0], metric="incidents"
    )
    evaluation = evaluate(rollout(INCIDENTS), samples, start=START)
    (breach,) = evaluation.breaches
    assert (breach.started_at, breach.breached_at, breach.delta) == (at(4), at(4), 1.0)


@pytest.mark.parametrize(
    ("release_n", "baseline_n", "delta"),
    [(300.0, 100.0, 2 - 3.0), (None, 100.0, 1.0), (300.0, None, 1.0), (300.0, 0.0, 2.0)],
)
def test_incidents_of_the_baseline_are_scaled_by_exposure_where_it_is_known(
    release_n: float | None, baseline_n: float | None, delta: float
) -> None:
    samples = arm(RELEASE, [0, 2], metric="incidents", n=release_n)
    samples += arm(BASELINE, [1, 0], metric="incidents", n=baseline_n)
    evaluation = evaluate(rollout(INCIDENTS), samples, start=START)
    look = evaluation.budgets[0].look
    assert look is not None
    assert look.delta == pytest.approx(delta)
    assert (evaluation.verdict is VerdictKind.BREACH) == (delta > 0)


def test_looks_begin_one_step_after_the_grace_and_end_with_the_window() -> None:
    early, late = at(0.5), at(10)
    spec = rollout(budget(minutes=0), watch=Watch(grace=2 * MINUTE), minutes=10)
    samples = both([120.0, 120.0] + [100.0] * 8 + [120.0])
    evaluation = evaluate(spec, samples, start=START)
    assert (evaluation.verdict, evaluation.final) == (VerdictKind.HEALTHY, True)
    assert (evaluation.budgets[0].looks, evaluation.evaluated_until) == (8, late)
    assert evaluate(spec, samples, start=early).budgets[0].looks == 7


def test_a_window_that_ends_between_two_steps_ends_with_its_last_whole_step() -> None:
    fold = Fold(rollout(), Window(START, at(10.5)))
    assert fold.fold(frame_of(rollout(), both([100.0] * 9), start=START, end=at(9))) is None
    verdict = fold.fold(frame_of(rollout(), both([100.0] * 10), start=START, end=at(10)))
    assert verdict is not None
    assert verdict.verdict is VerdictKind.HEALTHY


def test_a_recorded_breach_is_listed_once_and_the_watch_goes_on_to_the_next_one() -> None:
    recorded = budget("cost", Comparison.ABOVE, 1.0, minutes=0, area="money", tier=Tier.C)
    samples = both([100.0] * 4 + [120.0] * 6) + both([2.0] * 10, metric="cost")
    spec = rollout(recorded, budget(minutes=3), minutes=10)
    evaluation = evaluate(spec, samples, start=START)
    assert [(b.budget, b.breached_at) for b in evaluation.breaches] == [
        ("money.cost_above", at(1)),
        ("latency.p95_delta_pct", at(8)),
    ]
    assert [snapshot.looks for snapshot in evaluation.budgets] == [8, 8]
    alone = evaluate(rollout(recorded, minutes=10), samples, start=START)
    assert (alone.verdict, alone.final, len(alone.breaches)) == (VerdictKind.BREACH, True, 1)
    assert alone.evaluated_until == at(10)


def test_all_budgets_that_breach_at_one_look_are_listed_and_a_breach_beats_blindness() -> None:
    spec = rollout(
        budget("gone", area="quality"),
        budget(minutes=2),
        budget("p95", Comparison.ABOVE, 110.0, minutes=2, area="money"),
        watch=Watch(blind_after=8 * MINUTE),
    )
    together = evaluate(spec, both([100.0] * 5 + [120.0] * 5), start=START)
    assert (together.verdict, together.blind) == (VerdictKind.BREACH, None)
    assert [b.budget for b in together.breaches] == ["latency.p95_delta_pct", "money.p95_above"]
    earlier = evaluate(spec, both([100.0] * 6 + [120.0] * 5), start=START)
    assert (earlier.verdict, earlier.breaches) == (VerdictKind.BLIND, ())
    assert earlier.blind is not None
    assert (earlier.blind.area, earlier.blind.since, earlier.evaluated_until) == ("quality", START, at(8))
    assert [snapshot.burn for snapshot in earlier.budgets] == [timedelta(0), MINUTE, MINUTE]
    assert earlier.sentence == "quality: no budget could be read for 8 min, since 2026-10-01 12:00:00 UTC"


def test_an_area_sees_as_long_as_one_of_its_budgets_does() -> None:
    spec = rollout(budget(), budget("p50"), watch=Watch(blind_after=6 * MINUTE))
    by_turns = both([100.0] * 5) + both([100.0] * 4, metric="p50", first=10)
    evaluation = evaluate(spec, by_turns, start=START, until=at(25))
    assert evaluation.blind is not None
    assert (evaluation.blind.since, evaluation.evaluated_until) == (at(13), at(19))


def test_an_override_starts_a_new_burn_and_a_new_count() -> None:
    spec = rollout(budget(minutes=5), INCIDENTS)
    samples = both([120.0] * 20) + both([0, 1] + [0] * 18, metric="incidents", baseline=0)
    went_on = [Restart(INCIDENTS.id, at(2)), Restart("latency.p95_delta_pct", at(6))]
    (breach,) = evaluate(spec, samples, start=START, restarts=went_on).breaches
    assert (breach.budget, breach.started_at, breach.breached_at) == ("latency.p95_delta_pct", at(7), at(12))
    again = [*went_on, Restart("latency.p95_delta_pct", at(12))]
    assert evaluate(spec, samples, start=START, restarts=again).breaches[0].breached_at == at(18)


def test_going_on_although_blind_starts_the_blind_clock_anew() -> None:
    spec = rollout(budget(), INCIDENTS)
    samples = both([0] * 60, metric="incidents", baseline=0)
    assert evaluate(spec, samples, start=START).evaluated_until == at(15)
    on = evaluate(spec, samples, start=START, restarts=[Restart(None, at(20))])
    assert (on.verdict, on.evaluated_until) == (VerdictKind.BLIND, at(35))
    overridden = evaluate(spec, samples, start=START, restarts=[Restart("latency.p95_delta_pct", at(20))])
    assert (overridden.verdict, overridden.evaluated_until) == (VerdictKind.BLIND, at(35))


def test_a_guard_sees_only_its_tier_and_is_never_blind() -> None:
    spec = rollout(budget(minutes=0), INCIDENTS)
    samples = both([120.0] * 30) + both([None] * 25 + [1.0], metric="incidents", baseline=0)
    guard = Fold(spec, Window(START, at(60)), tiers=frozenset({Tier.A}), watch_blind=False)
    verdict = guard.fold(frame_of(spec, samples, start=START, end=at(60)))
    assert verdict is not None
    assert [(b.budget, b.breached_at) for b in verdict.breaches] == [(INCIDENTS.id, at(26))]


def test_a_copy_goes_on_alone_so_that_a_failed_read_can_be_tried_again() -> None:
    spec = rollout(budget(minutes=5), INCIDENTS, watch=Watch(blind_after=4 * MINUTE))
    samples = both([120.0] * 20) + both([0] * 20, metric="incidents", baseline=0)
    fold = Fold(spec, Window(START, at(60)))
    fold.fold(frame_of(spec, samples, start=START, end=at(3)))
    before = fold.evaluation()
    assert fold.copy().fold(frame_of(spec, [], start=at(3), end=at(6))) is None
    blind = fold.copy().fold(frame_of(spec, [], start=at(3), end=at(7)))
    assert blind is not None
    assert (blind.verdict, blind.evaluated_until) == (VerdictKind.BLIND, at(7))
    assert fold.evaluation() == before
    assert fold.copy().fold(frame_of(spec, samples, start=at(3), end=at(20))) == evaluate(
        spec, samples, start=START, end=at(60)
    )
    assert fold.fold(frame_of(spec, [], start=at(3), end=at(7))) == blind


def test_blindness_that_the_rule_lets_pass_is_no_verdict() -> None:
    spec = rollout(watch=Watch(on_blind=OnBlind.CONTINUE), minutes=60)
    evaluation = evaluate(spec, [], start=START, until=at(60))
    assert (evaluation.verdict, evaluation.blind) == (VerdictKind.HEALTHY, None)
    assert evaluation.budgets[0].unknown_looks == 60


def test_going_on_lists_every_breach_each_from_a_new_start() -> None:
    spec = rollout(budget(minutes=5), minutes=20)
    evaluation = evaluate(spec, both([120.0] * 20), start=START, keep_going=True)
    assert [b.breached_at for b in evaluation.breaches] == [at(6), at(12), at(18)]
    assert (evaluation.evaluated_until, evaluation.budgets[0].looks) == (at(20), 20)


def test_samples_off_the_minute_are_looks_of_their_own_and_not_holes() -> None:
    samples = [moved(sample, time=sample.time + 17 * (MINUTE / 60)) for sample in both([120.0] * 10)]
    evaluation = evaluate(rollout(), samples, start=START)
    assert (evaluation.budgets[0].looks, evaluation.budgets[0].unknown_looks) == (10, 0)


def test_identical_samples_collapse_and_conflicting_or_naive_ones_are_named() -> None:
    samples = both([100.0, nan], n=50.0)
    assert evaluate(rollout(), samples + samples, start=START) == evaluate(rollout(), samples, start=START)
    with pytest.raises(
        SeriesError, match=r"p95 of model-v42 at 2026-10-01T12:01.*100 \(n 50\) and 101 \(n 50\)"
    ):
        evaluate(rollout(), [*samples, moved(samples[0], value=101.0)], start=START)
    with pytest.raises(SeriesError, match="time zone"):
        frame_of(rollout(), [moved(samples[0], time=at(1).replace(tzinfo=None))], start=START, end=at(9))


def test_samples_of_other_series_and_versions_and_buckets_beside_a_value_change_nothing() -> None:
    samples = both([100.0] * 3)
    others = [
        Sample(at(2), "p95", "model-v40", 9e9),
        Sample(at(2), "p50", RELEASE, 9e9),
        Sample(at(2), "p95", RELEASE, 9e9, None, 0.5),
    ]
    assert evaluate(rollout(), samples + others, start=START) == evaluate(rollout(), samples, start=START)


def test_a_breach_carries_its_latest_looks_and_the_averages_of_all() -> None:
    spec = rollout(budget(minutes=300))
    samples = both([120.0] * 150 + [140.0] * 151)
    (breach,) = evaluate(spec, samples, start=START).breaches
    assert (len(breach.samples), breach.samples[-1].time, breach.started_at) == (120, at(301), at(1))
    assert breach.over_burn.release_value == pytest.approx((150 * 120 + 151 * 140) / 301)


def test_averages_over_a_burn_weigh_by_events() -> None:
    samples = both([120.0], n=300.0) + both([140.0], n=100.0, first=2)
    (breach,) = evaluate(rollout(budget(minutes=1)), samples, start=START).breaches
    over = breach.over_burn
    assert (over.release_value, over.release_n, over.baseline_n) == (pytest.approx(125.0), 400.0, 400.0)
    assert over.delta == pytest.approx(25.0)


def test_a_fold_does_not_grow_with_what_it_has_folded() -> None:
    endless = rollout(budget(minutes=10**6, accounting="cumulative"), INCIDENTS, minutes=10**6)
    fold = Fold(endless, Window(START, at(10**6)))

    def run(first: int, last: int) -> Evaluation:
        for minute in range(first, last, 50):
            part = both([120.0] * 50, first=minute + 1)
            part += both([0.0] * 50, metric="incidents", baseline=0.0, first=minute + 1)
            fold.fold(frame_of(endless, part, start=at(minute), end=at(minute + 50)))
        gc.collect()
        return fold.evaluation()

    run(0, 500)
    tracemalloc.start()
    try:
        run(500, 1000)
        after_some = tracemalloc.get_traced_memory()[0]
        evaluation = run(1000, 6000)
        after_many = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert evaluation.budgets[0].burn == 5999 * MINUTE
    assert after_many - after_some < 20_000
