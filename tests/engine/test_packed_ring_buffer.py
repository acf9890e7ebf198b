"""What a watch keeps of its looks: the same however they came, bounded, and not for a collector to walk."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

import pytest

from rollback_budget.engine.burn import MAX_SAMPLES
from rollback_budget.engine.evaluation import Evaluation, Status
from rollback_budget.engine.fold import Fold, Window, evaluate
from rollback_budget.engine.frame import frame_of
from rollback_budget.engine.sample import Sample
from rollback_budget.model.budget import Comparison, Method, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from tests.engine.builders import MINUTE, START, at, both, budget, rollout

pytestmark = pytest.mark.pure

DAY = 24 * 60


def look_by_look(spec: RolloutSpec, samples: Sequence[Sample], minutes: int) -> tuple[Fold, Evaluation]:
    """Fold as a watch does that was never interrupted."""
    fold = Fold(spec, Window(START, START + spec.window))
    for minute in range(minutes):
        now = [sample for sample in samples if sample.time == at(minute + 1)]
        verdict = fold.fold(frame_of(spec, now, start=at(minute), end=at(minute + 1)))
        if verdict is not None:
            return fold, verdict
    return fold, fold.evaluation()


def evidence(minutes: float) -> RolloutSpec:
    success = budget(
        "success",
        Comparison.DELTA_PP,
        -2.0,
        minutes=minutes,
        area="quality",
        worse=Worse.LOWER,
        method=Method.AUTO,
    )
    described = {"success": Metric(kind=MetricKind.PROPORTION)}
    return rollout(
        success,
        metrics=described,
        watch=Watch(blind_after=timedelta(hours=9), stuck_after=timedelta(days=30)),
    )


@pytest.mark.parametrize("method", [Method.THRESHOLD, Method.AUTO])
def test_a_breach_carries_the_same_samples_however_many_looks_were_folded_at_a_time(method: Method) -> None:
    spec = evidence(180)
    spec = spec.model_copy(update={"budgets": (spec.budgets[0].model_copy(update={"method": method}),)})
    # Three looks of ten are missing, and three hours are more than a breach carries.
    release = [None if minute % 10 < 3 else 0.9 if minute < 200 else 0.5 for minute in range(600)]
    samples = both(release, baseline=0.9, metric="success", n=100.0)
    replayed = evaluate(spec, samples, start=START)
    _, watched = look_by_look(spec, samples, 600)
    assert watched == replayed
    (breach,) = replayed.breaches
    assert len(breach.samples) == MAX_SAMPLES
    assert {look.status for look in breach.samples} <= {Status.BAD, Status.GOOD}
    assert breach.samples[-1].time <= breach.breached_at
    assert [look.time for look in breach.samples] == sorted(look.time for look in breach.samples)


def test_samples_of_a_breach_are_of_its_trailing_duration_alone() -> None:
    release = [0.9 if minute < 60 else 0.3 for minute in range(200)]
    _, evaluation = look_by_look(evidence(20), both(release, baseline=0.9, metric="success", n=200.0), 200)
    (breach,) = evaluation.breaches
    assert all(breach.breached_at - look.time < 20 * MINUTE for look in breach.samples)


def walked(fold: Fold) -> int:
    """How many objects of this fold a full garbage collection walks; the spec's are shared."""
    gc.collect()
    seen: dict[int, object] = {}
    found: list[object] = [fold]
    while found:
        one = found.pop()
        ours = isinstance(one, list | tuple | dict | set | deque) or type(one).__module__.startswith(
            "rollback_budget.engine"
        )
        if id(one) in seen or isinstance(one, type) or not ours:
            continue
        seen[id(one)] = one
        found += gc.get_referents(one)
    return sum(map(gc.is_tracked, seen.values()))


@pytest.mark.slow
def test_a_burning_watch_gives_the_garbage_collector_no_more_to_walk_after_a_day_than_after_an_hour() -> None:
    lines = [
        budget("success", Comparison.DELTA_PP, -2.0, minutes=DAY, tier=Tier.C, worse=Worse.LOWER, **more)
        for more in ({"area": "weighed", "method": Method.AUTO}, {"area": "plain"})
    ]
    signed = budget("p95", minutes=DAY, area="signed", tier=Tier.C, method=Method.SIGN)
    spec = rollout(*lines, signed, metrics={"success": Metric(kind=MetricKind.PROPORTION)})
    wave = [0.9 - 0.002 * (minute % 7) for minute in range(DAY)]
    samples = both(wave, baseline=0.9, metric="success", n=50.0) + both([120.0] * DAY)
    after_an_hour, _ = look_by_look(spec, samples, 60)
    after_a_day, _ = look_by_look(spec, samples, DAY - 1)
    assert walked(after_a_day) <= walked(after_an_hour) + 10
    assert walked(after_a_day) < 150
