"""Metrics in paces of their own: looks interleave, and every order of reading them gives the same verdict."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Evaluation, Fold, Sample, VerdictKind, Window, evaluate, frame_of
from rollback_budget.engine.fold import Restart
from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.budget import Accounting, Comparison, Method, Tier, Worse
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.pace import longest_shift, pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, property_test, rollout
from tests.engine.oracle import PacedOracle

pytestmark = [pytest.mark.pure, pytest.mark.slow]

MINUTES = 60
METRICS = ("p95", "score", "cost")


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    every, lag = draw(st.sampled_from((None, 1, 3, 5))), draw(st.sampled_from((None, 0, 2, 7, 20)))
    return Metric(
        every=None if every is None else every * MINUTE,
        lag=None if lag is None else lag * MINUTE,
        bucket_by=draw(st.sampled_from((BucketBy.EVENT, BucketBy.EVENT, BucketBy.ARRIVAL))),
    )


@st.composite
def specs(draw: st.DrawFn) -> RolloutSpec:
    budgets = [
        budget(
            draw(st.sampled_from(METRICS)),
            draw(st.sampled_from((Comparison.DELTA_PCT, Comparison.INCREASE))),
            20.0,
            minutes=draw(st.sampled_from((0, 2, 6, 12))),
            area=draw(st.sampled_from(("quality", "latency"))),
            tier=draw(st.sampled_from(list(Tier))),
            accounting=draw(st.sampled_from(list(Accounting))),
        ).model_copy(update={"id": f"budget-{place}"})
        for place in range(draw(st.integers(1, 4)))
    ]
    watch = Watch(
        settle=draw(st.sampled_from((0, 1))) * MINUTE,
        grace=draw(st.sampled_from((0, 4))) * MINUTE,
        max_gap=draw(st.sampled_from((1, 3))) * MINUTE,
        blind_after=draw(st.sampled_from((3, 8))) * MINUTE,
        on_blind=draw(st.sampled_from((OnBlind.CONTINUE, OnBlind.REVIEW))),
        stuck_after=timedelta(days=30),
    )
    described = {name: draw(metrics()) for name in METRICS}
    minutes = draw(st.sampled_from((MINUTES - 7, MINUTES)))
    return rollout(*budgets, watch=watch, minutes=minutes, metrics=described)


@st.composite
def recordings(draw: st.DrawFn, spec: RolloutSpec) -> list[Sample]:
    """Runs of looks that are alike, in the pace of each metric, with holes between them."""
    samples = []
    for metric in METRICS:
        every = int(pace_of(spec, metric).every / MINUTE)
        for version, values, lengths in (
            (RELEASE, (100.0, 130.0, 130.0, nan, None), (1, 2, 4, 8)),
            (BASELINE, (100.0, 100.0, 100.0, None), (4, 10, 20)),
        ):
            minute = every
            while minute <= MINUTES:
                value = draw(st.sampled_from(values))
                for _ in range(draw(st.sampled_from(lengths))):
                    if value is not None and minute <= MINUTES:
                        samples.append(Sample(at(minute), metric, version, value, 50.0))
                    minute += every
    return samples


def whole(spec: RolloutSpec, samples: list[Sample], *, keep_going: bool = False) -> Evaluation:
    return evaluate(spec, samples, start=START, until=at(MINUTES), keep_going=keep_going)


@property_test
@given(st.data())
def test_the_fold_says_what_the_definition_says(data: st.DataObject) -> None:
    spec = data.draw(specs())
    samples = data.draw(recordings(spec))
    said = PacedOracle(spec, samples, START, at(MINUTES)).say()
    found = whole(spec, samples)
    listed = sorted((b.budget, b.started_at, b.breached_at) for b in found.breaches)
    assert listed == sorted(said.breaches)
    assert {one.budget: one.burn for one in found.budgets} == said.burns
    if found.blind is None or not found.blind.budgets:
        assert found.verdict is said.verdict
    else:
        # At the end, what nobody saw is not called kept; the definition of a look says nothing of that.
        assert said.verdict in (VerdictKind.HEALTHY, VerdictKind.BREACH)


@property_test
@given(st.data(), st.booleans())
def test_polls_and_restarts_give_the_same_evaluation(data: st.DataObject, keep_going: bool) -> None:
    spec = data.draw(specs())
    samples = data.draw(recordings(spec))
    last = MINUTES + int(longest_shift(spec) / MINUTE) + 1
    cuts = sorted({0, last, *data.draw(st.lists(st.integers(1, last), max_size=last))})
    window = Window(START, START + spec.window)
    fold = Fold(spec, window, keep_going=keep_going)
    for first, clock in pairwise(cuts):
        if data.draw(st.booleans(), label="crash"):
            fold = Fold(spec, window, keep_going=keep_going)
        again = 0 if fold.evaluated_until is None else max(first - 21, 0)
        reread = data.draw(st.integers(0, again), label="read again from")
        fold = fold.copy()
        fold.fold(frame_of(spec, samples, start=at(reread), end=at(MINUTES), as_of=at(clock)))
    assert fold.evaluation() == whole(spec, samples, keep_going=keep_going)


@property_test
@given(st.data())
def test_the_looks_are_reported_once_each_and_in_the_order_in_which_they_are_decided(
    data: st.DataObject,
) -> None:
    spec = data.draw(specs())
    samples = data.draw(recordings(spec))
    seen: list[tuple[int, str]] = []
    clocks: list[int] = []
    fold = Fold(spec, Window(START, START + spec.window), keep_going=True)

    def note(clock: int, snapshots: object) -> None:
        clocks.append(clock)
        seen.extend((one.look.time, one.budget) for one in snapshots)  # type: ignore[attr-defined]

    evaluation = fold.fold(frame_of(spec, samples, start=START, end=at(MINUTES)), note)
    assert clocks == sorted(set(clocks))
    assert len(seen) == len(set(seen))
    found = fold.evaluation() if evaluation is None else evaluation
    assert {one.budget: one.looks for one in found.budgets} == {
        one.budget: sum(budget_id == one.budget for _, budget_id in seen) for one in found.budgets
    }


HOUR = 60 * MINUTE
JUDGE = Metric(every=HOUR, lag=2 * HOUR)


def judged(*more: object, minutes: float = 24 * 60, **changes: object) -> RolloutSpec:
    """A latency by the minute beside a score by the hour."""
    score = budget("score", threshold=20.0, minutes=120, area="quality", **changes)  # type: ignore[arg-type]
    return rollout(
        score,
        budget(),
        watch=Watch(stuck_after=timedelta(days=30)),
        metrics={"score": JUDGE},
        minutes=minutes,
    )


def latency(minutes: int) -> list[Sample]:
    return arm(RELEASE, [100.0] * minutes) + arm(BASELINE, [100.0] * minutes)


def scores(release: list[float | None]) -> list[Sample]:
    by_hour = [(START + (hour + 1) * HOUR, value) for hour, value in enumerate(release)]
    return [
        Sample(time, "score", version, value if version == RELEASE else 100.0, 50.0)
        for time, value in by_hour
        for version in (RELEASE, BASELINE)
        if value is not None
    ]


def test_an_hourly_score_beside_a_latency_by_the_minute_is_not_blind() -> None:
    found = evaluate(judged(), latency(24 * 60) + scores([100.0] * 24), start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert {one.budget: (one.looks, one.unknown_looks) for one in found.budgets} == {
        "quality.score_delta_pct": (24, 0),
        "latency.p95_delta_pct": (1440, 0),
    }


def test_an_hourly_score_is_blind_after_hours_and_a_latency_after_minutes() -> None:
    spec = judged()
    no_scores = evaluate(spec, latency(24 * 60), start=START, until=at(24 * 60))
    assert no_scores.verdict is VerdictKind.BLIND
    assert no_scores.blind is not None
    assert (no_scores.blind.area, no_scores.evaluated_until) == ("quality", at(15 * 60) + JUDGE_LATER)
    no_latency = evaluate(spec, latency(60) + scores([100.0] * 24), start=START, until=at(24 * 60))
    assert no_latency.blind is not None
    assert (no_latency.blind.area, no_latency.evaluated_until) == ("latency", at(75))


def test_a_metric_may_say_itself_when_it_is_blind_and_how_long_a_hole_burns() -> None:
    own = JUDGE.model_copy(update={"blind_after": 4 * HOUR, "max_gap": HOUR})
    spec = judged().model_copy(update={"metrics": {"score": own}})
    found = evaluate(spec, latency(24 * 60), start=START, until=at(24 * 60))
    assert found.evaluated_until == at(4 * 60) + JUDGE_LATER
    with_holes = scores([130.0, None, 130.0, None, 130.0] + [100.0] * 19)
    found = evaluate(spec, latency(24 * 60) + with_holes, start=START)
    assert found.verdict is VerdictKind.HEALTHY
    found = evaluate(judged(), latency(24 * 60) + with_holes, start=START)
    assert found.verdict is VerdictKind.BREACH


JUDGE_LATER = 2 * HOUR - Watch().settle


def test_two_bad_hours_are_a_breach_when_the_third_score_has_come() -> None:
    spec = judged()
    bad = scores([100.0] * 3 + [130.0] * 21)
    found = evaluate(spec, latency(24 * 60) + bad, start=START)
    (breach,) = found.breaches
    assert (breach.started_at, breach.breached_at) == (at(4 * 60), at(6 * 60))
    assert breach.burn == 2 * HOUR
    assert found.evaluated_until == at(6 * 60) + JUDGE_LATER


def test_a_faster_breach_that_is_decided_first_is_the_verdict() -> None:
    slow = [100.0 if minute < 400 else 200.0 for minute in range(1, 24 * 60 + 1)]
    fast = arm(RELEASE, slow) + arm(BASELINE, [100.0] * 24 * 60)
    found = evaluate(judged(), fast + scores([100.0] * 3 + [130.0] * 21), start=START)
    assert [one.budget for one in found.breaches] == ["latency.p95_delta_pct"]
    assert found.evaluated_until == at(430)
    score = next(one for one in found.budgets if one.budget == "quality.score_delta_pct")
    assert score.look is not None
    assert score.look.time == at(5 * 60)


def test_an_area_is_blind_only_when_all_of_its_paces_are() -> None:
    score = budget("score", threshold=20.0, minutes=120, area="quality")
    fast = budget(area="quality")
    spec = rollout(score, fast, watch=Watch(stuck_after=timedelta(days=30)), metrics={"score": JUDGE})
    without_fast = evaluate(spec, scores([100.0] * 24), start=START, until=at(24 * 60))
    assert without_fast.blind is not None
    assert without_fast.blind.budgets == ("quality.p95_delta_pct",)
    neither = evaluate(spec, latency(60), start=START, until=at(24 * 60))
    assert neither.blind is not None
    assert (neither.blind.budgets, neither.evaluated_until) == ((), at(15 * 60) + JUDGE_LATER)


def test_a_record_that_ends_before_the_late_scores_does_not_make_them_unknown() -> None:
    found = evaluate(judged(), latency(10 * 60) + scores([100.0] * 8), start=START)
    score = next(one for one in found.budgets if one.budget == "quality.score_delta_pct")
    assert (score.looks, score.unknown_looks) == (8, 0)


def test_scores_by_arrival_leave_out_the_first_lag_and_do_not_wait() -> None:
    spec = judged().model_copy(
        update={"metrics": {"score": JUDGE.model_copy(update={"bucket_by": BucketBy.ARRIVAL})}}
    )
    bad_at_first = scores([130.0, 130.0] + [100.0] * 3 + [130.0] * 19)
    found = evaluate(spec, latency(24 * 60) + bad_at_first, start=START)
    (breach,) = found.breaches
    assert (breach.started_at, breach.breached_at) == (at(6 * 60), at(8 * 60))
    assert found.evaluated_until == at(8 * 60)


def test_a_window_too_short_for_one_look_of_a_metric_is_not_called_healthy() -> None:
    found = evaluate(judged(minutes=45), latency(45), start=START)
    assert found.verdict is VerdictKind.BLIND
    assert found.blind is not None
    assert found.blind.budgets == ("quality.score_delta_pct",)


def test_a_judge_that_changes_starts_the_comparison_over_and_is_said() -> None:
    spec = judged()
    bad = [
        one._replace(judge="judge-1" if one.time <= at(5 * 60) else "judge-2") for one in scores([130.0] * 24)
    ]
    found = evaluate(spec, latency(24 * 60) + bad, start=START)
    assert found.breaches[0].breached_at == at(3 * 60)
    late = [one if one.time > at(3 * 60) else one._replace(value=100.0) for one in bad]
    found = evaluate(spec, latency(24 * 60) + late, start=START)
    assert found.breaches[0].started_at == at(6 * 60)
    assert found.breaches[0].breached_at == at(8 * 60)
    assert found.doubts == (
        "the judge of quality.score_delta_pct changed from judge-1 to judge-2 at 2026-10-01 18:00 UTC:"
        " what it had scored before does not count any more",
    )
    assert found.sentence == f"{found.breaches[0].sentence}; {found.doubts[0]}"


def test_a_judge_that_changes_is_not_said_of_the_breach_of_another_budget() -> None:
    slow = [100.0 if minute < 900 else 200.0 for minute in range(1, 24 * 60 + 1)]
    fast = arm(RELEASE, slow) + arm(BASELINE, [100.0] * 24 * 60)
    good = [
        one._replace(judge="judge-1" if one.time <= at(5 * 60) else "judge-2") for one in scores([100.0] * 24)
    ]
    found = evaluate(judged(), fast + good, start=START)
    assert [one.budget for one in found.breaches] == ["latency.p95_delta_pct"]
    assert "changed from judge-1 to judge-2" in found.doubts[0]
    assert found.sentence == found.breaches[0].sentence


def test_scores_of_judges_that_never_stay_for_the_duration_are_not_called_kept() -> None:
    def scored(hours: int) -> Evaluation:
        """Bad scores of two judges, of whom each scores for so many hours before the other does."""
        by_two = [
            one._replace(judge=f"judge-{(one.time - START) // HOUR // hours % 2 + 1}")
            for one in scores([130.0] * 24)
        ]
        return evaluate(judged(), latency(24 * 60) + by_two, start=START)

    found = scored(1)
    assert found.verdict is VerdictKind.BLIND
    assert found.sentence == (
        "quality.score_delta_pct was not judged, its judge changed 23 times and stayed for 1 h at most, which"
        " cannot use up 2 h; last from judge-2 to judge-1 at 2026-10-02 12:00 UTC"
    )
    assert found.blind is not None
    assert found.blind.budgets == ("quality.score_delta_pct",)
    assert scored(3).verdict is VerdictKind.BREACH


def test_a_judge_that_changes_late_leaves_what_it_kept_until_then_kept() -> None:
    good = [
        one._replace(judge="judge-1" if one.time < START + 24 * HOUR else "judge-2")
        for one in scores([100.0] * 24)
    ]
    found = evaluate(judged(), latency(24 * 60) + good, start=START)
    assert found.verdict is VerdictKind.HEALTHY
    assert "changed from judge-1 to judge-2" in found.sentence


def test_a_slow_metric_is_decided_as_soon_when_the_release_ships_between_two_looks() -> None:
    proportion = Metric(kind=MetricKind.PROPORTION, every=HOUR, lag=2 * HOUR)
    score = budget("score", Comparison.DELTA_PP, -3.0, minutes=120, worse=Worse.LOWER, method=Method.AUTO)
    spec = rollout(score, metrics={"score": proportion}, minutes=4 * 60)
    bad = [
        Sample(START + hour * HOUR, "score", version, 0.6 if version == RELEASE else 0.85, 2000.0)
        for hour in range(6)
        for version in (RELEASE, BASELINE)
    ]
    for minutes in (0, 7, 59):
        shipped = START - HOUR + minutes * MINUTE
        found = evaluate(spec, bad, start=shipped, until=at(4 * 60), as_of=at(8 * 60))
        first = START if minutes == 0 else START + HOUR
        # The first look only tells the baseline's rate, and the two after it are the duration.
        assert [one.breached_at for one in found.breaches] == [first + 2 * HOUR]
        assert found.breaches[0].started_at == first


def test_versions_that_two_judges_scored_are_not_compared() -> None:
    mixed = [
        one._replace(judge="judge-2" if one.version == RELEASE else "judge-1") for one in scores([130.0] * 24)
    ]
    found = evaluate(judged(), latency(24 * 60) + mixed, start=START, until=at(10 * 60))
    score = next(one for one in found.budgets if one.budget == "quality.score_delta_pct")
    assert score.unknown_looks == 10
    assert score.invalid == "not scored by one judge, model-v41 by judge-1 and model-v42 by judge-2"


def test_what_was_not_decided_when_the_commander_went_on_counts_afterwards() -> None:
    late = Metric(every=HOUR, lag=6 * HOUR)
    spec = rollout(
        budget("score", threshold=20.0, minutes=0, area="quality"),
        watch=Watch(stuck_after=timedelta(days=30)),
        metrics={"score": late},
        minutes=6 * 60,
    )
    bad = scores([130.0] * 6)
    first = evaluate(spec, bad, start=START)
    assert first.breaches[0].breached_at == at(60)
    went_on = Restart("quality.score_delta_pct", at(7 * 60 + 10))
    again = evaluate(spec, bad, start=START, restarts=[went_on])
    assert [one.breached_at for one in again.breaches] == [at(120)]


def test_looks_of_a_silent_slow_metric_lie_on_the_grid_of_utc_as_those_of_a_live_watch_do() -> None:
    spec = judged(minutes=20 * 60)
    start = at(17)
    samples = [one for one in latency(21 * 60) if one.time > start]
    found = evaluate(spec, samples, start=start, until=start + 20 * HOUR)
    assert found.blind is not None
    assert found.blind.area == "quality"
    score = next(one for one in found.budgets if one.budget == "quality.score_delta_pct")
    assert score.look is not None
    assert score.look.time.minute == 0


def test_a_suspended_slow_budget_hides_nothing_of_what_the_others_of_its_area_do_not_see() -> None:
    score = budget("score", threshold=20.0, minutes=120, area="quality")
    fast = budget(area="quality")
    spec = rollout(score, fast, watch=Watch(stuck_after=timedelta(days=30)), metrics={"score": JUDGE})
    suspended = Suspension(budget=score.id, since=START, until=at(24 * 60), by="alice", reason="repairs")
    found = evaluate(
        spec, latency(30) + scores([100.0] * 24), start=START, until=at(24 * 60), suspensions=[suspended]
    )
    assert found.blind is not None
    assert (found.blind.since, found.evaluated_until) == (at(30), at(45))


def test_a_last_look_that_is_still_to_come_keeps_a_window_from_being_over() -> None:
    spec = judged(minutes=3 * 60)
    fold = Fold(spec, Window(START, at(3 * 60)))
    samples = latency(3 * 60) + scores([100.0, 100.0, 130.0])
    # The clock stands between two hours: the last score is not in yet.
    assert fold.fold(frame_of(spec, samples, start=START, end=at(180), as_of=at(180 + 90))) is None
    assert fold.fold(frame_of(spec, samples, start=START, end=at(180), as_of=at(180 + 119))) is not None
