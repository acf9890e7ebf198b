"""An exporter that hangs gives the same value and count for ever: that is no sign of health."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Sample, VerdictKind, evaluate
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.stuck_series import NO_STREAKS, Streaks, StuckSeries
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.watch_settings import Watch
from tests.engine.builders import (
    BASELINE,
    MINUTE,
    RELEASE,
    START,
    arm,
    at,
    both,
    budget,
    property_test,
    rollout,
)

pytestmark = pytest.mark.pure

P95 = budget()
LONG = 180


def spec_of(kind: MetricKind = MetricKind.QUANTILE, **more: object) -> object:
    return rollout(
        P95, metrics={"p95": Metric(kind=kind, unit="s")}, minutes=LONG, **{"watch": Watch(), **more}
    )


def moving(version: str) -> list[Sample]:
    return arm(version, [2.0 + 0.01 * (minute % 7) for minute in range(LONG)], n=100)


def test_a_release_whose_series_stands_still_is_blind_and_says_why() -> None:
    stands_still = arm(RELEASE, [2.0] * LONG, n=100)
    found = evaluate(spec_of(), stands_still + moving(BASELINE), start=START)  # type: ignore[arg-type]
    assert found.verdict is VerdictKind.BLIND
    assert found.evaluated_until == at(1 + 120 + 14)
    assert f"{RELEASE}: the same value and count for 2 h and more" in found.sentence


def test_a_series_that_moves_once_an_hour_is_alive() -> None:
    moves = arm(RELEASE, [2.0] * 59 + [2.1] + [2.0] * 59 + [2.1] * 30 + [2.0] * 31, n=100)
    found = evaluate(spec_of(), moves + moving(BASELINE), start=START)  # type: ignore[arg-type]
    assert found.verdict is VerdictKind.HEALTHY


@pytest.mark.parametrize(
    ("kind", "value", "n"),
    [
        (MetricKind.GAUGE, 2.0, None),
        (MetricKind.COUNT, 0.0, None),
        (MetricKind.PROPORTION, 1.0, None),
        # A job that sends a request a minute, all of which succeed.
        (MetricKind.PROPORTION, 1.0, 1),
        (MetricKind.PROPORTION, 0.0, 60),
        (MetricKind.MEAN, 0.0, None),
    ],
)
def test_what_may_well_stand_still_does(kind: MetricKind, value: float, n: float | None) -> None:
    samples = both([value] * LONG, baseline=value, n=n)
    found = evaluate(spec_of(kind), samples, start=START)  # type: ignore[arg-type]
    assert found.budgets[0].invalid_looks == 0


def test_as_many_successes_of_as_many_requests_look_after_look_are_stuck_where_they_are_many() -> None:
    stands_still = both([1.0] * LONG, baseline=1.0, n=1234)
    found = evaluate(spec_of(MetricKind.PROPORTION), stands_still, start=START)  # type: ignore[arg-type]
    assert found.verdict is VerdictKind.BLIND


def test_a_few_requests_that_fall_into_one_bucket_look_after_look_are_not_stuck() -> None:
    buckets = [
        Sample(at(minute), "p95", version, count, None, bound)
        for minute in range(1, LONG + 1)
        for version in (RELEASE, BASELINE)
        for bound, count in {0.5: 0.0, 0.55: 1.0, 0.6: 1.0, inf: 1.0}.items()
    ]
    found = evaluate(spec_of(), buckets, start=START)  # type: ignore[arg-type]
    assert found.verdict is VerdictKind.HEALTHY


def test_a_budget_says_how_long_is_too_long() -> None:
    stands_still = arm(RELEASE, [2.0] * LONG, n=100)
    spec = spec_of(watch=Watch(stuck_after=20 * MINUTE))
    found = evaluate(spec, stands_still + moving(BASELINE), start=START)  # type: ignore[arg-type]
    assert found.evaluated_until == at(1 + 20 + 14)


@property_test
@given(
    st.lists(
        st.tuples(
            st.sampled_from((0.5, 0.5, 0.7, nan)),
            st.sampled_from((200.0, 200.0, 90.0, nan)),
            st.integers(1, 14),
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.integers(1, 160), max_size=6),
)
def test_looks_in_chunks_are_stuck_where_looks_one_by_one_are(
    runs: list[tuple[float, float, int]], cuts: list[int]
) -> None:
    values = [value for value, _, length in runs for _ in range(length)]
    counts = [n for _, n, length in runs for _ in range(length)]
    spec = rollout(
        budget(), watch=Watch(stuck_after=5 * MINUTE), metrics={"p95": Metric(kind=MetricKind.MEAN)}
    )
    stuck, arms = StuckSeries(budget(), spec), Arms(values, counts, values, counts)
    times = [60_000_000 * look for look in range(len(values))]

    def looks(ends: list[int]) -> tuple[list[list[float]], Streaks]:
        streaks, found, first = NO_STREAKS, [], 0
        for end in ends:
            masked, _, streaks = stuck.look(streaks, arms, times, first, end)
            found += [[masked.release[look]] for look in range(first, end)]
            first = end
        return found, streaks

    in_chunks = looks(sorted({*(cut for cut in cuts if cut < len(values)), len(values)}))
    assert repr(in_chunks) == repr(looks(list(range(1, len(values) + 1))))
