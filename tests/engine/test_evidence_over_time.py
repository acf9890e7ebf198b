"""Evidence over time: valid whenever one looks, the same however a watch was cut up, and never twice."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate
from math import comb, exp, inf, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import (
    Evaluation,
    Fold,
    Sample,
    Window,
    evaluate,
    frame_of,
)
from rollback_budget.engine import (
    null_boundary as boundary,
)
from rollback_budget.engine.eprocess import EProcess, log_mean_exp
from rollback_budget.engine.null_boundary import MULTIPLES, Counts, NullBoundary, log_evidence
from rollback_budget.model.budget import Comparison, Method, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Analysis
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, property_test, rollout
from tests.support.examples import examples

pytestmark = pytest.mark.pure

HOUR = 60
SUCCESS = budget(
    "task_success",
    Comparison.DELTA_PP,
    -2.0,
    minutes=20,
    area="quality",
    worse=Worse.LOWER,
    method=Method.AUTO,
)
HANDOFF = budget("handoff", Comparison.DELTA_PCT, 50.0, minutes=12, area="escalation", method=Method.AUTO)
SLOW = budget("p95", Comparison.DELTA_PCT, 15.0, minutes=16, method=Method.AUTO)
CRASHES = budget(
    "crashes", Comparison.INCREASE, 2.0, minutes=10, area="safety", method=Method.AUTO, min_samples=0
)
METRICS = {
    "handoff": Metric(kind=MetricKind.PROPORTION),
    "task_success": Metric(kind=MetricKind.PROPORTION),
    "p95": Metric(kind=MetricKind.QUANTILE, unit="s"),
    "crashes": Metric(kind=MetricKind.COUNT),
}


def all_of_them(minutes: int = 24 * HOUR, **more: object) -> RolloutSpec:
    return rollout(SUCCESS, HANDOFF, SLOW, CRASHES, metrics=METRICS, minutes=minutes, **more)


def drawer(n: int, rate: float, random: Random) -> Callable[[], int]:
    """Return what draws binomial counts."""
    chances = [comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
    cumulative = list(accumulate(chances))
    return lambda: min(bisect_left(cumulative, random.random()), n)


def rejected(
    rate: float, learnt: float, line: NullBoundary, *, runs: int = 400, blocks: int = 30, n: int = 40
) -> float:
    """Return how many of ``runs`` without harm reject at any of their looks."""
    random = Random(20261001)
    baseline, release = drawer(n, rate, random), drawer(n, line.at(rate), random)
    count = 0
    for _ in range(runs):
        process = EProcess(alpha=0.2, blocks=1, in_window=blocks, alternatives=len(MULTIPLES))
        for block in range(blocks):
            process.update(block, log_evidence(Counts(baseline(), n, release(), n), learnt, line, 0.04))
            if process.rejects:
                count += 1
                break
    return count / runs


def test_looking_at_every_block_rejects_no_more_than_alpha_and_a_wrong_projection_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = NullBoundary(0.02, 1.0)
    bound = 0.2 + 3 * (0.2 * 0.8 / 400) ** 0.5
    assert rejected(0.10, 0.10, line) <= bound
    assert rejected(0.16, 0.10, line) <= bound
    monkeypatch.setattr(boundary, "project_on_boundary", lambda baseline, *_: baseline)
    assert rejected(0.16, 0.10, line) > bound


def test_fewer_blocks_than_the_duration_never_reject_and_as_many_of_the_strongest_do() -> None:
    process = EProcess(alpha=0.05, blocks=4, in_window=288, alternatives=3)
    outcomes = []
    for block in range(4):
        process.update(block, [inf, 1e300, 50.0])
        outcomes.append(process.rejects)
    assert outcomes == [False, False, False, True]
    assert process.p_value == pytest.approx(0.05)


def test_a_block_counts_once_and_a_late_one_not_at_all() -> None:
    process = EProcess(alpha=0.05, blocks=4, in_window=288, alternatives=2)
    assert process.update(3, [0.4, 0.2])
    clone = process.copy()
    assert not process.update(3, [0.4, 0.2])
    assert not process.update(1, [0.9, 0.9])
    assert process.update(4, [0.1, 0.1])
    assert clone.update(4, [0.1, 0.1])
    assert (process.p_value, process.since) == (clone.p_value, clone.since)


@property_test
@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=40))
def test_the_process_is_what_its_definition_says(blocks: list[list[float]]) -> None:
    alpha, in_duration, in_window = 0.05, 4, 40
    process = EProcess(alpha=alpha, blocks=in_duration, in_window=in_window, alternatives=3)
    cap_a, cap_b = log(2 / alpha) / in_duration, log(2 * in_window / alpha) / (in_duration + 1)
    a, b, p_value = [1.0] * 3, [0.0] * 3, 1.0
    for index, logs in enumerate(blocks):
        process.update(index, logs)
        a = [value * exp(min(more, cap_a)) for value, more in zip(a, logs, strict=True)]
        b = [(1 + value) * exp(min(more, cap_b)) for value, more in zip(b, logs, strict=True)]
        mean_a, mean_b = sum(a) / 3, sum(b) / 3
        p_value = min(p_value, 2 * min(1 / mean_a, in_window / mean_b))
        assert process.p_value == pytest.approx(p_value)
        if abs(p_value / alpha - 1) > 1e-6:
            now = mean_a >= 2 / alpha or mean_b >= 2 * in_window / alpha
            assert process.rejects == now


def test_evidence_of_any_size_stays_in_range() -> None:
    process = EProcess(alpha=1e-6, blocks=1, in_window=10**6, alternatives=2)
    for block in range(2000):
        process.update(block, [1e9, -1e9])
    assert (process.rejects, process.p_value) == (True, 0.0)
    assert log_mean_exp([-inf, -inf]) == -inf
    assert log_mean_exp([1e6, -inf]) == pytest.approx(1e6 - log(2))


def recorded(
    minutes: int, *, n: float | None = 60.0, harm_from: int = 10**6, seed: int = 7, holes: float = 0.05
) -> list[Sample]:
    """Every metric, minute by minute, with holes; from ``harm_from`` on the release is much worse."""
    random = Random(seed)
    samples = []
    for minute in range(1, minutes + 1):
        for version in (RELEASE, BASELINE):
            bad = version == RELEASE and minute >= harm_from
            size = int(n or 60)
            rates = {"task_success": 0.75 if bad else 0.9, "handoff": 0.3 if bad else 0.1}
            for metric, rate in rates.items():
                if random.random() > holes:
                    count = sum(random.random() < rate for _ in range(size))
                    samples.append(Sample(at(minute), metric, version, count / size, n))
            if random.random() > holes:
                slow = 1.6 * random.uniform(0.9, 1.1) * (1.6 if bad else 1.0)
                samples.append(Sample(at(minute), "p95", version, slow, n))
            crashes = sum(random.random() < (0.3 if bad else 0.02) for _ in range(3))
            samples.append(Sample(at(minute), "crashes", version, float(crashes), n))
    return samples


def folded_in_pieces(spec: RolloutSpec, samples: list[Sample], cuts: list[int], until: int) -> Evaluation:
    """Fold as a watch does that reads up to each cut, and begins anew with a copy of its state at each."""
    fold = Fold(spec, Window(START, START + spec.window), keep_going=True)
    begin = 0
    for cut in [*sorted(cuts), until]:
        fold = fold.copy()
        fold.fold(frame_of(spec, samples, start=at(begin), end=at(cut)))
        begin = cut
    return fold.evaluation()


LONG = recorded(150, harm_from=50)
BARE = recorded(150, n=None, harm_from=50)


@pytest.mark.slow
@examples(40)
@given(st.lists(st.integers(1, 149), max_size=12), st.booleans())
def test_a_watch_that_was_cut_anywhere_decides_the_same(cuts: list[int], counted: bool) -> None:
    samples = LONG if counted else BARE
    spec = all_of_them(150)
    whole = evaluate(spec, samples, start=START, until=at(150), keep_going=True)
    assert folded_in_pieces(spec, samples, cuts, 150) == whole
    assert len(whole.breaches) > 3


@pytest.mark.parametrize(
    "block", [timedelta(minutes=1), timedelta(minutes=2, seconds=30), timedelta(hours=1)]
)
def test_blocks_that_are_no_whole_number_of_steps_decide_the_same_in_pieces(block: timedelta) -> None:
    spec = all_of_them(150, analysis=Analysis(block=block))
    whole = evaluate(spec, LONG, start=START, until=at(150), keep_going=True)
    assert folded_in_pieces(spec, LONG, list(range(1, 150)), 150) == whole


def test_the_same_data_as_rates_and_as_whole_counts_agree_to_the_bit() -> None:
    samples = [s for s in recorded(120, n=60.0, harm_from=60) if s.series == "task_success"]
    rounded = [Sample(s.time, s.series, s.version, round(s.value, 4), s.n) for s in samples]
    spec = rollout(SUCCESS, metrics=METRICS, minutes=120)
    exact, shown = (evaluate(spec, some, start=START, until=at(120)) for some in (samples, rounded))
    assert exact.breaches[0].p_value == shown.breaches[0].p_value
    assert exact.breaches[0].over_burn == shown.breaches[0].over_burn


def test_late_data_is_reported_once_and_never_added() -> None:
    spec = rollout(SUCCESS, metrics=METRICS, minutes=120)
    samples = [s for s in recorded(60, holes=0) if s.series == "task_success"]
    gone = {at(minute) for minute in range(11, 16)}
    early = [s for s in samples if s.time not in gone]
    fold = Fold(spec, Window(START, at(120)))
    fold.fold(frame_of(spec, early, start=START, end=at(40)))
    before = fold.evaluation().budgets[0]
    for _ in range(2):
        fold.fold(frame_of(spec, samples, start=START, end=at(40)))
    after = fold.evaluation().budgets[0]
    assert (before.late_looks, after.late_looks, after.unknown_looks) == (0, 5, 5)
    assert after.model_copy(update={"late_looks": 0}) == before
    fold.fold(frame_of(spec, samples, start=at(40), end=at(60)))
    missed = evaluate(spec, early, start=START, until=at(60)).budgets[0]
    assert fold.evaluation().budgets[0].p_value == missed.p_value
