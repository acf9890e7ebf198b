"""Metrics in several paces: each is drawn, tried and proposed in its own looks, and all keep one promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.fold import Fold, Window
from rollback_budget.engine.frame import join_paces
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Budget, Comparison, Method, Tier
from rollback_budget.model.method_plan import alpha_of
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Analysis, Watch
from rollback_budget.suggest.bootstrap import Bootstrap
from rollback_budget.suggest.candidates import fast_line, near
from rollback_budget.suggest.change import change_in
from rollback_budget.suggest.few_looks import few_looks
from rollback_budget.suggest.noise import clustering_of, noise_of
from rollback_budget.suggest.record import NoChangeRecord, record_of
from rollback_budget.suggest.suggestion import suggest_rule
from rollback_budget.suggest.windows import DrawnWindows, Trial, breaches_in
from tests.suggest.records import (
    BASELINE,
    DAY,
    JUDGE,
    METRIC,
    MINUTE,
    RELEASE,
    START,
    points,
    rollout,
    scores,
    traffic,
)
from tests.support.examples import examples

pytestmark = [pytest.mark.pure, pytest.mark.slow]

T = TypeVar("T")
HOUR = timedelta(hours=1)


def judge(threshold: float = -2.0, hours: float = 2, **more: Any) -> Budget:
    """A budget on an hourly score; without counts, so that the sign test decides."""
    fields: dict[str, Any] = {"id": f"quality.{JUDGE}_delta", "metric": JUDGE, **more}
    return points(threshold, 60 * hours, **{"comparison": Comparison.DELTA, **fields})


def paced(
    *budgets: Budget, hours: float = 24, score: dict[str, Any] | None = None, **more: Any
) -> RolloutSpec:
    metrics = {
        METRIC: Metric(kind=MetricKind.PROPORTION),
        JUDGE: Metric(**{"every": HOUR, **(score or {})}),
    }
    return rollout(*budgets, hours=hours, metrics=metrics, **more)


def numbered(days: int, every: int, first: int) -> NoChangeRecord:
    """A record whose every value is the minute at which its look ends; the fast one begins at ``first``."""
    other = points(id="quality.other", metric="other", comparison=Comparison.DELTA)
    spec = paced(other, judge(), score={"every": every * MINUTE})
    looks = {"other": (first, 1), JUDGE: (every, every)}
    samples = [
        Sample(START + minute * MINUTE, series, version, float(minute), None)
        for series, (begin, step) in looks.items()
        for minute in range(begin, days * DAY + 1, step)
        for version in (RELEASE, BASELINE)
    ]
    return record_of(spec, samples)


RECORDS = {
    (days, every, first): numbered(days, every, first)
    for days in (1, 3)
    for every in (5, 7, 60)
    for first in (1, 4)
}


@given(record=st.sampled_from(sorted(RECORDS)), block=st.integers(1, 300), window=st.integers(0, 10_000))
@examples(40)
def test_metrics_of_two_paces_are_drawn_from_the_same_recorded_time(
    record: tuple[int, int, int], block: int, window: int
) -> None:
    every = record[1]
    drawn = Bootstrap(RECORDS[record], block)
    arms = drawn.arms(window)
    fast, slow = arms["other"].release, arms[JUDGE].release
    assert (len(fast), len(slow)) == (DAY, DAY // every)
    for look, ends in enumerate(slow):
        assert ends % every == 0
        assert fast[look * every : (look + 1) * every] == [
            ends - every + 1 + minute for minute in range(every)
        ]
    assert arms[JUDGE].baseline == slow


def test_steps_that_do_not_fill_each_other_are_drawn_from_nearly_the_same_time() -> None:
    other = points(id="quality.other", metric="other", comparison=Comparison.DELTA)
    spec = paced(other, judge(), score={"every": 90 * MINUTE})
    spec = spec.model_copy(update={"metrics": {**spec.metrics, "other": Metric(every=7 * MINUTE)}})
    samples = [
        Sample(START + minute * MINUTE, series, version, float(minute), None)
        for series, step in (("other", 7), (JUDGE, 90))
        for minute in range(step, 3 * DAY + 1, step)
        for version in (RELEASE, BASELINE)
    ]
    drawn = Bootstrap(record_of(spec, samples), 2)
    arms, start = drawn.arms(4), drawn.start
    slow = arms[JUDGE].release
    for time, value in zip(drawn.times("other"), arms["other"].release, strict=True):
        minute = (time - start) // 60_000_000
        look = ceil(minute / 90) - 1
        if look < len(slow):
            assert 0 <= slow[look] - (90 * (look + 1) - minute) - value < 7


def test_a_metric_too_slow_to_draw_from_leaves_the_others_their_own_cells() -> None:
    spec = paced(points(), judge(), score={"every": timedelta(days=1)})
    drawn = Bootstrap(record_of(spec, [*traffic(7 * DAY), *scores(7 * DAY, every=DAY)]), 60)
    assert drawn.cells.length == 60_000_000
    arms = drawn.arms(1)
    assert (len(arms[METRIC].release), len(arms[JUDGE].release)) == (DAY, 1)
    assert arms[JUDGE].release[0] in drawn.record.frame.of(JUDGE).arms[JUDGE].release


def test_a_metric_without_any_sample_has_no_looks_and_trips_nothing() -> None:
    spec = paced(points(-10.0, 10), judge(), score={"every": timedelta(days=2)})
    found = suggest_rule(spec, traffic(n=60), days=100)
    assert found.budgets[1].current.false_trips.count == 0
    assert found.budgets[1].noise.known == 0


@pytest.mark.parametrize("lag", [0, 180])
def test_each_pace_gives_what_it_gives_alone(lag: int) -> None:
    score = {"lag": lag * MINUTE}
    samples = [*traffic(2 * DAY, n=40), *scores(2 * DAY)]
    both = record_of(paced(points(), judge(), score=score), samples)
    for budget in (points(), judge()):
        ours = [sample for sample in samples if sample.series == budget.series]
        alone = record_of(paced(budget, score=score), ours)
        assert both.frame.of(budget.series).arms == alone.frame.of(budget.series).arms
        assert noise_of(both, budget) == noise_of(alone, budget)
        assert change_in(both, budget) == change_in(alone, budget)
        assert few_looks(both, budget) == few_looks(alone, budget)
    assert clustering_of(both, points()) == clustering_of(
        record_of(paced(points()), traffic(2 * DAY, n=40)), points()
    )


def of_any(found: T, _: Budget) -> T:
    return found


def test_each_budget_of_a_file_with_two_paces_is_tried_with_its_share_of_the_promise() -> None:
    spec = paced(points(-1.0, 20), judge(-1.0, 2, method=Method.SIGN), analysis=Analysis(alpha=0.5))
    drawn = Bootstrap(record_of(spec, [*traffic(2 * DAY, wander=0.05), *scores(2 * DAY)]), 5)
    with DrawnWindows(drawn) as tried:
        found = tried.try_rule(Trial(spec), range(20))
    assert any(latency is not None for latency, _ in found)
    for number, window in enumerate(found):
        arms = drawn.arms(number)
        for budget, after in zip(spec.budgets, window, strict=True):
            alone = paced(budget, analysis=Analysis(alpha=alpha_of(spec)))
            looks, times = arms[budget.series], drawn.times(budget.series)
            assert (after,) == breaches_in(
                Trial(alone), partial(of_any, looks), partial(of_any, times), drawn.start
            )


@given(
    grace=st.sampled_from([0, 17, 60]),
    every=st.sampled_from([5, 60]),
    lag=st.sampled_from([None, 0, 90]),
    bucket_by=st.sampled_from(list(BucketBy)),
    seed=st.integers(0, 100),
)
@examples(12)
def test_a_window_of_two_paces_breaches_when_the_engine_folds_it_to_a_breach(
    grace: int, every: int, lag: int | None, bucket_by: BucketBy, seed: int
) -> None:
    spec = paced(
        points(-6.0, 8, method=Method.THRESHOLD),
        judge(-2.0, every / 60, method=Method.THRESHOLD),
        hours=12,
        watch=Watch(grace=grace * MINUTE),
        score={
            "every": every * MINUTE,
            "lag": None if lag is None else lag * MINUTE,
            "bucket_by": bucket_by,
        },
    )
    record = record_of(spec, [*traffic(DAY, wander=0.08), *scores(DAY, every=every)])
    drawn = Bootstrap(record, 4, seed)
    with DrawnWindows(drawn) as tried:
        found = tried.try_rule(Trial(spec), range(3))
    start = us_to_datetime(drawn.start)
    for number, window in enumerate(found):
        arms, frames = drawn.arms(number), []
        for frame in record.frame.paces:
            (series,) = frame.arms
            times = list(drawn.times(series))
            frames.append(replace(frame, times=times, end=times[-1], arms={series: arms[series]}, others=()))
        fold = Fold(spec, Window(start, start + spec.window), watch_blind=False, keep_going=True)
        fold.fold(join_paces(frames))
        breaches = fold.evaluation().breaches
        for budget, after in zip(spec.budgets, window, strict=True):
            at = [one.breached_at for one in breaches if one.budget == budget.id]
            late = max(pace_of(spec, budget.metric).shift, timedelta(0))
            assert after == (at[0] - start + late if at else None)


def test_false_trips_are_windows_in_which_a_budget_of_any_pace_trips() -> None:
    spec = paced(points(-12.0, 8, method=Method.THRESHOLD), judge(-4.0, 1, method=Method.THRESHOLD), hours=12)
    found = suggest_rule(spec, [*traffic(2 * DAY, wander=0.05), *scores(2 * DAY)], days=100)
    each = [one.current.false_trips.count for one in found.budgets]
    assert all(each)
    assert max(each) <= found.false_trips.count <= sum(each)
    assert found.alpha == 0.05
    assert found.block % HOUR == timedelta(0)


@given(
    every=st.sampled_from([1, 5, 45, 60, 360]),
    minutes=st.integers(1, 3000),
    threshold=st.sampled_from([-2.0, 0.0]),
)
@examples(60)
def test_durations_that_are_proposed_are_whole_looks_and_never_shorter(
    every: int, minutes: int, threshold: float
) -> None:
    budget = judge(threshold, minutes / 60)
    first, *others = near(paced(budget, score={"every": every * MINUTE}), budget)
    assert first == budget
    assert others
    for line in others:
        assert line.max_duration % (every * MINUTE) == timedelta(0)
        assert line.max_duration >= max(budget.max_duration, every * MINUTE)
    assert len({(line.threshold, line.max_duration) for line in (first, *others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("score", "is_proposed"),
    [
        ({"every": MINUTE}, True),
        ({"every": 2 * MINUTE}, True),
        ({"every": HOUR}, False),
        ({"every": MINUTE, "lag": 2 * HOUR}, False),
        ({"every": MINUTE, "lag": 2 * HOUR, "bucket_by": BucketBy.ARRIVAL}, False),
    ],
)
def test_a_fast_line_is_for_metrics_with_fast_looks(score: dict[str, Any], is_proposed: bool) -> None:
    budget = judge(-2.0, 6)
    spec = paced(budget, score=score)
    fast = fast_line(spec, budget)
    assert (fast is not None) is is_proposed
    assert fast is None or fast.max_duration % pace_of(spec, JUDGE).every == timedelta(0)


def test_harm_of_a_late_metric_is_found_when_it_is_known_and_has_its_lag_more() -> None:
    budget = judge(-40.0, 1, method=Method.THRESHOLD, tier=Tier.B)
    samples: Sequence[Sample] = [*traffic(2 * DAY, n=60), *scores(2 * DAY)]
    lines = []
    for lag in (0, 180):
        spec = paced(points(-10.0, 10), budget, score={"lag": lag * MINUTE}, watch=Watch(settle=timedelta(0)))
        lines.append(suggest_rule(spec, samples, days=100).budgets[1].current.found)
    soon, late = lines
    assert soon is not None
    assert late is not None
    assert (soon.usually, late.usually) == (2 * HOUR, 5 * HOUR)
    assert late.within - soon.within == late.lost == 3 * HOUR


def test_a_day_of_hourly_looks_says_that_it_has_few_and_what_can_be_known() -> None:
    record = record_of(paced(points(), judge()), [*traffic(), *scores()])
    said = few_looks(record, judge())
    assert said is not None
    assert "few looks, 24 of 1 h: the spread is known to about 15 %" in said
    assert "no design effect can be told from fewer than 200, no shift or drift from fewer than 40" in said
    assert "9 days would give 200" in said
    assert few_looks(record, points()) is None


def test_looks_that_are_not_a_step_of_their_metric_apart_are_named() -> None:
    spec = paced(points(), judge())
    with pytest.raises(SeriesError, match=f"samples of {JUDGE} are not 1 h apart, as its `every` says"):
        record_of(spec, [*traffic(), *scores(every=30)])
