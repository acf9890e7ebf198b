"""A reader that stops at the first final verdict has seen every look of the window, whatever the lags are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Evaluation, Fold, Sample, Window, evaluate, frame_of
from rollback_budget.model.budget import Accounting, Comparison
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.model.pace import longest_shift
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, property_test, rollout
from tests.engine.oracle import PacedOracle

pytestmark = [pytest.mark.pure, pytest.mark.slow]

MINUTES = 60
SECOND = timedelta(seconds=1)
METRICS = ("p95", "score", "cost")
#: Most of them no whole number of looks, and some no whole number of minutes.
LAGS = (0, 40, 60, 150, 420, 500, 1230)


@st.composite
def specs(draw: st.DrawFn) -> RolloutSpec:
    """Budgets that the newest looks decide, in paces whose lags lie beside their grids."""
    metrics = {
        name: Metric(
            every=draw(st.sampled_from((1, 3, 5, 10, 20))) * MINUTE,
            lag=draw(st.sampled_from(LAGS)) * SECOND,
            bucket_by=draw(st.sampled_from((BucketBy.EVENT, BucketBy.EVENT, BucketBy.ARRIVAL))),
        )
        for name in METRICS
    }
    budgets = [
        budget(
            name,
            Comparison.DELTA_PCT,
            20.0,
            minutes=draw(st.sampled_from((0, 10, 20, 40))),
            area=name,
            accounting=draw(st.sampled_from(list(Accounting))),
        )
        for name in draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True))
    ]
    watch = Watch(
        settle=draw(st.sampled_from((0, 60, 90))) * SECOND,
        on_blind=OnBlind.CONTINUE,
        stuck_after=timedelta(days=30),
    )
    minutes = draw(st.sampled_from((MINUTES - 7, MINUTES)))
    return rollout(*budgets, watch=watch, minutes=minutes, metrics=metrics)


@st.composite
def recordings(draw: st.DrawFn, spec: RolloutSpec) -> list[Sample]:
    """Looks that are good up to one of the last ones, and bad from then on."""
    samples = []
    for name, metric in spec.metrics.items():
        assert metric.every is not None
        every = int(metric.every / MINUTE)
        times = range(every, MINUTES + 1, every)
        bad = draw(st.sampled_from((0, 1, 2, 3, len(times))), label=f"bad looks of {name}")
        for place, minute in enumerate(times):
            value = 130.0 if place >= len(times) - bad else 100.0
            samples += [
                Sample(at(minute), name, RELEASE, value, 50.0),
                Sample(at(minute), name, BASELINE, 100.0, 50.0),
            ]
    return samples


def read_until_final(
    spec: RolloutSpec, samples: list[Sample], poll: timedelta, offset: timedelta
) -> Evaluation | None:
    """Poll until the first final verdict, as a watch does."""
    fold, clock = Fold(spec, Window(START, START + spec.window)), START + offset
    while clock <= at(MINUTES) + longest_shift(spec) + poll:
        found = fold.fold(frame_of(spec, samples, start=START, end=at(MINUTES), as_of=clock))
        if found is not None:
            return found
        clock += poll
    return None


@property_test
@given(st.data())
def test_the_first_final_verdict_is_that_of_the_whole_window(data: st.DataObject) -> None:
    spec = data.draw(specs())
    samples = data.draw(recordings(spec))
    poll = data.draw(st.sampled_from((50, 60, 420)), label="poll") * SECOND
    offset = data.draw(st.sampled_from((0, 7, 59)), label="offset") * SECOND
    found = read_until_final(spec, samples, poll, offset)
    whole = evaluate(spec, samples, start=START, until=at(MINUTES))
    assert found is not None
    # How far it has read behind the last look that fits into the window is no part of the verdict.
    assert found.model_copy(update={"evaluated_until": whole.evaluated_until}) == whole
    said = PacedOracle(spec, samples, START, at(MINUTES)).say()
    assert found.verdict is said.verdict
    assert {one.budget: one.burn for one in found.budgets} == said.burns
