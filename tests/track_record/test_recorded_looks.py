"""Samples rebuilt from looks lead a rule to what the samples themselves lead it to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Restart, Sample, evaluate
from rollback_budget.engine.suspension import Suspension
from rollback_budget.ledger.views import RecordedOverride
from rollback_budget.model.budget import Comparison, Method, Tier, Worse
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.track_record.recorded_looks import RecordedLooks, samples_of
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout
from tests.support.examples import examples
from tests.track_record.rollouts import fold_looks, key, logged

pytestmark = pytest.mark.pure

INCIDENTS = budget(
    "incidents", Comparison.INCREASE, 2.0, area="safety", minutes=0, tier=Tier.C, min_samples=0
)
SUCCESS = budget(
    "task_success",
    Comparison.DELTA_PP,
    -2.0,
    area="quality",
    minutes=8,
    worse=Worse.LOWER,
    tier=Tier.C,
    method=Method.SEQUENTIAL,
)
P95 = budget(minutes=5, tier=Tier.C)
#: Every budget only records, so that a watch goes on to its end.
SPEC = rollout(
    P95,
    SUCCESS,
    INCIDENTS,
    minutes=40,
    metrics={
        "task_success": Metric(kind=MetricKind.PROPORTION),
        "incidents": Metric(kind=MetricKind.COUNT),
        "p95": Metric(kind=MetricKind.GAUGE, scale=0.001),
    },
)
RECORD_ONLY = TierDecision(action=Action.RECORD_ONLY)
SPEC = SPEC.model_copy(update={"decision": Decision(tier_c_breach=RECORD_ONLY)})


@dataclass(frozen=True)
class Past:
    """What happened in a rollout."""

    samples: list[Sample]
    suspensions: list[Suspension]
    overrides: list[RecordedOverride]


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    """A rollout of forty minutes with holes, incidents, a suspension and a decision to go on."""
    samples: list[Sample] = []
    for minute in range(1, 41):
        for version in (RELEASE, BASELINE):
            if draw(st.integers(0, 9)):
                level = draw(st.sampled_from((1500.0, 1600.0, 2100.0, nan)))
                samples.append(Sample(at(minute), "p95", version, level, 200.0))
            if draw(st.integers(0, 9)):
                k, n = draw(st.integers(5, 10)), 10
                samples.append(Sample(at(minute), "task_success", version, k / n, float(n)))
            if draw(st.integers(0, 9)):
                events, exposure = draw(st.sampled_from((0, 0, 0, 1, 3))), draw(st.integers(1, 30))
                samples.append(Sample(at(minute), "incidents", version, float(events), float(exposure)))
    suspensions = []
    if draw(st.booleans()):
        since = draw(st.integers(1, 30))
        suspensions.append(
            Suspension(
                budget=draw(st.sampled_from(("safety", "all"))),
                since=at(since),
                until=at(since + draw(st.integers(1, 8))),
                by="alice",
                reason="load test",
            )
        )
    overrides = []
    if draw(st.booleans()):
        overrides.append(RecordedOverride(1, (INCIDENTS.id,), "alice", "known", at(12.5), at(40)))
    return Past(samples, suspensions, overrides)


def rebuilt(past: Past, spec: RolloutSpec = SPEC) -> list[Sample]:
    """What is left of the samples when a watch has looked at them, restarted after each override."""
    _, looks = fold_looks(spec, past.samples, suspensions=past.suspensions)
    for override in past.overrides:
        # The watch after it looks again from the window's start, and records what is new.
        restarts = [Restart(name, override.at) for name in override.budget_ids]
        _, again = fold_looks(spec, past.samples, suspensions=past.suspensions, restarts=restarts)
        until = int((override.at - START) / MINUTE)
        looks = [*looks[:until], *again[until:]]
    return samples_of(spec, logged(looks), past.overrides)


@given(pasts())
@examples(60)
def test_the_same_rule_breaches_at_the_same_looks_on_rebuilt_samples(past: Past) -> None:
    """With suspensions and a decision to go on in between, which part the sums of `_increase`."""
    live = evaluate(SPEC, past.samples, start=START, keep_going=True)
    again = evaluate(SPEC, rebuilt(past), start=START, keep_going=True)
    assert [(one.budget, one.breached_at) for one in again.breaches] == [
        (one.budget, one.breached_at) for one in live.breaches
    ]


@given(pasts())
@examples(60)
def test_every_event_is_rebuilt_once(past: Past) -> None:
    """In total, and of every look at which both versions had a sample."""
    first = [one for one in past.samples if one.series == "incidents"]
    again = [one for one in rebuilt(past) if one.series == "incidents"]
    for version in (RELEASE, BASELINE):
        of_version = [one for one in first if one.version == version]
        others = {one.time for one in first if one.version != version}
        found = {one.time: one for one in again if one.version == version}
        assert sum(one.value for one in of_version) == sum(
            one.value for one in found.values() if one.value == one.value
        )
        for one in of_version:
            if one.time in others:
                assert (found[one.time].value, found[one.time].n) == (one.value, one.n)


def test_values_are_given_back_in_the_unit_of_the_source() -> None:
    past = Past([*arm(RELEASE, [2100.0], n=200), *arm(BASELINE, [1600.0], n=200)], [], [])
    assert [one for one in rebuilt(past) if one.series == "p95"] == [
        Sample(at(1), "p95", RELEASE, pytest.approx(2100.0), 200.0),
        Sample(at(1), "p95", BASELINE, pytest.approx(1600.0), 200.0),
    ]


def test_a_look_at_nothing_is_an_unknown_sample_and_not_a_hole() -> None:
    past = Past([*arm(RELEASE, [1.0, None, 1.0], n=9), *arm(BASELINE, [1.0, None, 1.0], n=9)], [], [])
    times = [one.time for one in rebuilt(past) if one.series == "p95" and one.version == RELEASE]
    assert times == [at(1), at(2), at(3)]


def test_of_two_budgets_on_one_metric_the_one_with_plain_values_is_read() -> None:
    both = rollout(
        INCIDENTS,
        budget("incidents", Comparison.ABOVE, 3.0, area="load", minutes=5),
        minutes=40,
        metrics={"incidents": Metric(kind=MetricKind.COUNT)},
    )
    samples = arm(RELEASE, [1.0, 1.0], metric="incidents", n=5) + arm(
        BASELINE, [0.0, 0.0], metric="incidents", n=5
    )
    assert sorted(rebuilt(Past(samples, [], []), both)) == sorted(samples)


def past_looks(spec: RolloutSpec) -> RecordedLooks:
    return RecordedLooks("sqlite:////nowhere", key(1), spec, "model-v42")


def test_a_budget_on_a_metric_or_slice_that_was_not_recorded_is_untried_with_the_reason() -> None:
    sliced = budget("p95", slice="de").model_copy(update={"id": "latency.p95_delta_pct:de"})
    candidate = rollout(P95, sliced, budget("ttft"))
    assert past_looks(SPEC).untried(candidate) == {
        "latency.p95_delta_pct:de": "p95:de was not recorded: no budget of that rollout was on it",
        "latency.ttft_delta_pct": "ttft was not recorded: no budget of that rollout was on it",
    }


def test_a_metric_that_became_another_kind_is_untried() -> None:
    candidate = rollout(SUCCESS, metrics={"task_success": Metric(kind=MetricKind.COUNT)})
    assert past_looks(SPEC).untried(candidate) == {
        SUCCESS.id: "task_success was a proportion then, and is a count now"
    }


def test_late_events_that_are_taken_back_are_not_given_out_again() -> None:
    own = logged(fold_looks(SPEC, incidents(4))[1])[2::3]
    looks = [
        replace(look, release_value=total) for look, total in zip(own, (3.0, 2.0, 3.0, 4.0), strict=True)
    ]
    values = [one.value for one in samples_of(SPEC, looks) if one.version == RELEASE]
    assert values == [3.0, 0.0, 0.0, 1.0]


def incidents(minutes: int) -> list[Sample]:
    ones = [1.0] * minutes
    return arm(RELEASE, ones, metric="incidents", n=5) + arm(BASELINE, ones, metric="incidents", n=5)


@pytest.mark.parametrize(("then", "now"), [("event", "arrival"), ("arrival", "event")])
def test_looks_that_were_grouped_by_another_time_are_untried(then: str, now: str) -> None:
    lag = 5 * MINUTE
    before, after = (
        rollout(P95, SUCCESS, metrics={"p95": Metric(lag=lag, bucket_by=BucketBy(by))}) for by in (then, now)
    )
    assert past_looks(before).untried(after) == {
        P95.id: f"p95 was counted by {then} then, and is by {now} now"
    }
    assert past_looks(before).untried(before) == {}
