"""Rules tried on drawn windows: what the engine does with them, and how often chance trips them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.fold import Fold, Window
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.increase import comparator_of
from rollback_budget.engine.method import CountingPeriod, select_method
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Analysis, Watch
from rollback_budget.suggest.bootstrap import Bootstrap
from rollback_budget.suggest.interval import rate_of
from rollback_budget.suggest.may_breach import may_breach
from rollback_budget.suggest.record import record_of
from rollback_budget.suggest.windows import DrawnWindows, Trial
from tests.suggest.records import DAY, METRIC, MINUTE, RELEASE, START, by_look, points, rollout, traffic
from tests.support.examples import examples

pytestmark = pytest.mark.pure


def tripped(spec: RolloutSpec, drawn: Bootstrap, windows: int, jobs: int = 1) -> list[tuple[object, ...]]:
    with DrawnWindows(drawn, jobs=jobs) as tried:
        return list(tried.try_rule(Trial(spec), range(windows)))


def noisy(**more: object) -> Budget:
    return points(-8.0, 3, id="quality.noisy", method=Method.THRESHOLD, **more)


@pytest.mark.parametrize("grace", [0, 17])
def test_a_window_breaches_when_the_engine_folds_it_to_a_breach(grace: int) -> None:
    incidents = points(
        0.0,
        0,
        id="safety.incidents_increase",
        metric="incidents",
        comparison=Comparison.INCREASE,
        worse=Worse.HIGHER,
        min_samples=0,
    )
    spec = rollout(
        points(-6.0, 8),
        noisy(),
        points(-4.0, 20, id="quality.signs", method=Method.SIGN),
        incidents,
        watch=Watch(grace=grace * MINUTE),
        metrics={
            "task_success": Metric(kind=MetricKind.PROPORTION),
            "incidents": Metric(kind=MetricKind.COUNT),
        },
    )
    random = Random(2)
    rare = by_look(lambda *_: (float(random.random() < 0.01), 30.0), DAY, "incidents")
    drawn = Bootstrap(record_of(spec, [*traffic(wander=0.08), *rare]), 45)
    found = tripped(spec, drawn, 25)
    assert len({one is None for window in found for one in window}) == 2
    start = us_to_datetime(drawn.start)
    for number, window in enumerate(found):
        times = list(drawn.times(METRIC))
        frame = replace(drawn.record.frame, times=times, end=times[-1], arms=drawn.arms(number), invalid={})
        for budget, after in zip(spec.budgets, window, strict=True):
            fold = Fold(spec, Window(start, start + spec.window), watch_blind=False, keep_going=True)
            fold.fold(frame)
            breaches = [one for one in fold.evaluation().breaches if one.budget == budget.id]
            assert (after is None) is (not breaches)
            if breaches:
                assert after == breaches[0].breached_at - start


@given(
    threshold=st.sampled_from([1.0, 3.0, 8.0]),
    minutes=st.sampled_from([3, 7, 30]),
    comparison=st.sampled_from([Comparison.DELTA_PP, Comparison.DELTA_PCT]),
    worse=st.sampled_from(list(Worse)),
    grace=st.sampled_from([0, 13]),
    harm=st.floats(0.95, 1.4),
    seed=st.integers(0, 10_000),
)
@examples(120)
def test_what_is_said_to_be_unable_to_breach_is_not_breached_by_the_engine(
    threshold: float,
    minutes: int,
    comparison: Comparison,
    worse: Worse,
    grace: int,
    harm: float,
    seed: int,
) -> None:
    random = Random(seed)
    sign = 1.0 if worse is Worse.HIGHER else -1.0
    budget = points(sign * threshold, minutes, comparison=comparison, worse=worse, min_samples=2)
    spec, looks = rollout(budget, watch=Watch(grace=grace * MINUTE)), 180
    after = random.choice([0, random.randrange(looks)])
    harmful = range(after, grace + after + minutes + random.choice([0, 8]))
    columns: list[list[float]] = [[], [], [], []]
    for look in range(looks):
        # Requests enough for the evidence, so that the estimate decides; the first look is another world.
        worsened = -0.4 * sign if look == grace else sign * harm * threshold / 100 * (look in harmful)
        if comparison is Comparison.DELTA_PCT and look != grace:
            worsened *= 0.5
        for arm, shift in ((0, worsened), (2, 0.0)):
            n = random.randrange(4000, 9000) * (random.random() > 0.1)
            share = min(max(0.5 + shift + random.gauss(0.0, 0.002), 0.0), 1.0)
            columns[arm].append(round(n * share) / n if n else nan)
            columns[arm + 1].append(float(n) if n else nan)
    arms, times = Arms(*columns), [look * 60_000_000 for look in range(1, looks + 1)]
    # A release ships between two looks, too.
    shipped = grace * 60_000_000 - random.choice([0, 17_000_000])
    said = may_breach(spec, budget, arms.part(grace, looks), times[grace:], shipped)
    view = comparator_of(budget, spec).view(arms, grace, looks)
    method = select_method(budget, spec, CountingPeriod(shipped, shipped))
    assert said or method.fold(view, times[grace:], stop_at_breach=True) is None


@pytest.mark.parametrize("effect", [1.0, 2.5])
@pytest.mark.parametrize("comparison", [Comparison.DELTA_PP, Comparison.DELTA_PCT])
def test_most_windows_need_not_be_folded_and_none_that_breaches_is_left_out(
    effect: float, comparison: Comparison
) -> None:
    budget = points(-2.0, 20, comparison=comparison)
    spec = rollout(budget, analysis=Analysis(design_effect=effect))
    drawn = Bootstrap(record_of(spec, traffic(wander=0.05)), 60)
    breached = asked = 0
    for window in range(150):
        arms, times, start = drawn.arms(window)[budget.series], drawn.times(budget.series), drawn.start
        said = may_breach(spec, budget, arms, times, start)
        view = comparator_of(budget, spec).view(arms, 0, len(arms.release))
        method = select_method(budget, spec, CountingPeriod(start, start))
        breach = method.fold(view, list(times), stop_at_breach=True)
        assert said or breach is None
        breached, asked = breached + (breach is not None), asked + said
    assert breached <= asked <= breached + 8
    if effect == 1.0:
        assert breached >= 10


def test_a_rule_that_cannot_trip_trips_never() -> None:
    spec = rollout(points(-100.0, 20), points(-2.0, 240, id="quality.long"))
    drawn = Bootstrap(record_of(spec, traffic(wander=0.05)), 60)
    assert tripped(spec, drawn, 60) == [(None, None)] * 60


def test_independent_noise_trips_as_often_as_the_binomial_says() -> None:
    random, looks = Random(3), 240
    bad = {minute for minute in range(1, DAY + 1) if random.random() < 0.004}
    record = by_look(lambda minute, version: (0.5 if minute in bad and version == RELEASE else 0.9, None))
    spec = rollout(points(-2.0, 0, method=Method.THRESHOLD))
    found = tripped(spec, Bootstrap(record_of(spec, record), 1), 600)
    rate = rate_of(sum(after is not None for (after,) in found), 600)
    assert rate.low <= 1 - (1 - len(bad) / DAY) ** looks <= rate.high


@pytest.mark.slow
def test_processes_change_nothing_and_every_window_is_reported() -> None:
    spec = rollout(points(-8.0, 8), noisy())
    drawn = Bootstrap(record_of(spec, traffic(wander=0.08)), 45)
    begun: list[int] = []
    done: list[int] = []
    with DrawnWindows(drawn, jobs=2, on_begin=begun.append, on_done=done.append) as tried:
        found = tried.try_rule(Trial(spec), range(120))
    assert found == tripped(spec, drawn, 120)
    assert sum(begun) == sum(done) == 120


def test_harm_is_found_and_only_the_first_part_of_a_window_is_looked_at() -> None:
    spec = rollout(points(-10.0, 10))
    drawn = Bootstrap(record_of(spec, traffic()), 60)
    with DrawnWindows(drawn) as tried:
        harmed = tried.try_rule(Trial(spec, (0,), 2.0, timedelta(minutes=60)), range(20))
        soon = tried.try_rule(Trial(spec, (0,), 2.0, timedelta(minutes=9)), range(20))
    assert all(after is not None and after <= timedelta(minutes=60) for (after,) in harmed)
    assert soon == [(None,)] * 20


def test_the_window_of_a_rule_counts_from_the_first_drawn_look() -> None:
    spec = rollout(points(-2.0, 0, method=Method.THRESHOLD))
    record = by_look(lambda _, version: (0.5 if version == RELEASE else 0.9, None))
    drawn = Bootstrap(record_of(spec, record), 60)
    assert us_to_datetime(drawn.times(METRIC)[0]) == START + MINUTE
    assert tripped(spec, drawn, 3) == [(MINUTE,)] * 3
