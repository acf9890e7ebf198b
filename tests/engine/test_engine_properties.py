"""What must hold for every series: the laws that let a watch crash, restart and be replayed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rollback_budget.engine import Evaluation, Fold, Sample, VerdictKind, Window, evaluate, frame_of
from rollback_budget.model.budget import Accounting, Comparison, Tier, Worse
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, moved, property_test, rollout
from tests.engine.oracle import Oracle

pytestmark = [pytest.mark.pure, pytest.mark.slow]

MINUTES = 40

#: A metric of small whole numbers can stand exactly at each of these thresholds.
THRESHOLDS = {
    Comparison.DELTA_PCT: (15.0, -10.0, 0.0),
    Comparison.DELTA_PP: (1500.0, -1000.0),
    Comparison.DELTA: (15.0, -10.0),
    Comparison.INCREASE: (0.0, 20.0),
    Comparison.ABOVE: (110.0,),
    Comparison.BELOW: (100.0,),
}


@st.composite
def specs(draw: st.DrawFn) -> RolloutSpec:
    budgets = []
    for place in range(draw(st.integers(1, 3))):
        comparison = draw(st.sampled_from(list(Comparison)))
        threshold = draw(st.sampled_from(THRESHOLDS[comparison]))
        lower = threshold < 0 or comparison is Comparison.BELOW
        budgets.append(
            budget(
                draw(st.sampled_from(("p95", "cost"))),
                comparison,
                threshold,
                minutes=draw(st.sampled_from((0, 2, 4, 9))),
                area=draw(st.sampled_from(("latency", "money"))),
                worse=Worse.LOWER if lower else Worse.HIGHER,
                tier=draw(st.sampled_from(list(Tier))),
                accounting=draw(st.sampled_from(list(Accounting))),
                min_samples=draw(st.sampled_from((0, 1, 10))),
            ).model_copy(update={"id": f"budget-{place}"})
        )
    watch = Watch(
        grace=draw(st.sampled_from((0, 3))) * MINUTE,
        max_gap=draw(st.sampled_from((1, 3))) * MINUTE,
        blind_after=draw(st.sampled_from((6, 25))) * MINUTE,
        on_blind=draw(st.sampled_from((OnBlind.CONTINUE, OnBlind.REVIEW))),
    )
    return rollout(*budgets, watch=watch, minutes=draw(st.sampled_from((MINUTES - 5, MINUTES))))


@st.composite
def recordings(draw: st.DrawFn) -> list[Sample]:
    """Runs of looks that are alike, since burns need company, with holes and noise between them."""
    samples = []
    for metric in ("p95", "cost"):
        for version, values, lengths in (
            (RELEASE, (80.0, 100.0, 115.0, 130.0, 130.0, 130.0, nan, inf, None), (1, 1, 2, 4, 8)),
            (BASELINE, (100.0, 100.0, 100.0, 0.0, None), (4, 10, 20)),
        ):
            minute = 1
            while minute <= MINUTES:
                value = draw(st.sampled_from(values))
                n = draw(st.sampled_from((50.0, 50.0, 50.0, 5.0, 0.0, None)))
                for _ in range(draw(st.sampled_from(lengths))):
                    if value is not None and minute <= MINUTES:
                        samples.append(Sample(at(minute), metric, version, value, n))
                    minute += 1
    return samples


def whole(spec: RolloutSpec, samples: list[Sample], *, keep_going: bool = False) -> Evaluation:
    return evaluate(spec, samples, start=START, until=at(MINUTES), keep_going=keep_going)


@property_test
@given(specs(), recordings())
def test_the_fold_says_what_the_definition_says(spec: RolloutSpec, samples: list[Sample]) -> None:
    said = Oracle(spec, samples, START, at(MINUTES)).say()
    found = whole(spec, samples)
    assert found.verdict is said.verdict
    assert found.evaluated_until == said.until
    assert sorted((b.budget, b.started_at, b.breached_at) for b in found.breaches) == sorted(said.breaches)
    assert {snapshot.budget: snapshot.burn for snapshot in found.budgets} == said.burns


@property_test
@given(specs(), recordings(), st.booleans(), st.data())
def test_pieces_and_restarts_give_the_same_evaluation(
    spec: RolloutSpec, samples: list[Sample], keep_going: bool, data: st.DataObject
) -> None:
    cuts = sorted({0, MINUTES, *data.draw(st.lists(st.integers(1, MINUTES), max_size=MINUTES))})
    window = Window(START, START + spec.window)
    fold = Fold(spec, window, keep_going=keep_going)
    for first, last in pairwise(cuts):
        if data.draw(st.booleans(), label="crash"):
            fold = Fold(spec, window, keep_going=keep_going)
        again = 0 if fold.evaluated_until is None else first
        reread = data.draw(st.integers(0, again), label="read again from")
        fold = fold.copy()
        fold.fold(frame_of(spec, samples, start=at(reread), end=at(last)))
    assert fold.evaluation() == whole(spec, samples, keep_going=keep_going)


@property_test
@given(specs(), recordings(), st.integers(1, MINUTES))
def test_a_later_sample_never_changes_an_earlier_verdict(
    spec: RolloutSpec, samples: list[Sample], minute: int
) -> None:
    late = whole(spec, samples)
    early = evaluate(spec, [s for s in samples if s.time <= at(minute)], start=START, until=at(minute))
    if early.final:
        assert early == late
    else:
        assert late.evaluated_until is not None
        assert late.evaluated_until > at(minute)
        assert late.breaches[: len(early.breaches)] == early.breaches


@property_test
@given(
    specs(),
    recordings(),
    st.sampled_from((1, 7, 3600)),
    st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
)
def test_scaling_and_shifting_time_changes_nothing(
    spec: RolloutSpec, samples: list[Sample], factor: int, shift: timedelta
) -> None:
    start = START + shift
    watch = spec.watch.model_copy(
        update={
            name: factor * getattr(spec.watch, name) for name in ("step", "grace", "max_gap", "blind_after")
        }
    )
    budgets = tuple(b.model_copy(update={"max_duration": factor * b.max_duration}) for b in spec.budgets)
    other = spec.model_copy(update={"watch": watch, "window": factor * spec.window, "budgets": budgets})
    elsewhere = [moved(s, time=start + factor * (s.time - START)) for s in samples]
    here = whole(spec, samples)
    there = evaluate(other, elsewhere, start=start, until=start + factor * MINUTES * MINUTE)
    assert there.verdict is here.verdict
    assert there.evaluated_until is not None
    assert here.evaluated_until is not None
    assert there.evaluated_until - start == factor * (here.evaluated_until - START)
    assert [(b.budget, b.started_at - start, b.breached_at - start, b.delta) for b in there.breaches] == [
        (b.budget, factor * (b.started_at - START), factor * (b.breached_at - START), b.delta)
        for b in here.breaches
    ]


@property_test
@given(specs(), recordings(), st.sets(st.integers(1, MINUTES - 1)))
def test_an_unknown_look_never_resets_and_never_breaches(
    spec: RolloutSpec, samples: list[Sample], between: set[int]
) -> None:
    watch = spec.watch.model_copy(update={"on_blind": OnBlind.CONTINUE})
    spec = spec.model_copy(update={"watch": watch})
    unknown = [
        Sample(at(minute + 0.5), metric, version, nan)
        for minute in between
        for metric in ("p95", "cost")
        for version in (RELEASE, BASELINE)
    ]
    here, there = whole(spec, samples), whole(spec, samples + unknown)
    assert there.breaches == here.breaches
    assert there.evaluated_until == here.evaluated_until
    assert [snapshot.burn for snapshot in there.budgets] == [snapshot.burn for snapshot in here.budgets]


@property_test
@given(specs(), recordings())
def test_an_evaluation_survives_json(spec: RolloutSpec, samples: list[Sample]) -> None:
    evaluation = whole(spec, samples, keep_going=True)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


@property_test
@given(specs(), recordings())
def test_going_on_after_a_breach_lists_that_breach_first(spec: RolloutSpec, samples: list[Sample]) -> None:
    stopped = whole(spec, samples)
    assume(stopped.breaches)
    went_on = whole(spec, samples, keep_going=True)
    if stopped.verdict is VerdictKind.BREACH:
        assert went_on.verdict is VerdictKind.BREACH
    assert went_on.evaluated_until == at(min(MINUTES, spec.window / MINUTE))
    assert set(stopped.breaches) <= set(went_on.breaches)
