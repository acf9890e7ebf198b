"""What is recorded of metrics in several paces: each in its own steps, up to what has come."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from rollback_budget.engine import Sample, evaluate
from rollback_budget.engine.record_span import all_decided
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.recording.page import Page
from rollback_budget.recording.plan import RecordingPlan, latest_of, plan_between, plan_of_latest
from rollback_budget.recording.read import RecordingInMemory, read_pages
from rollback_budget.recording.summary import RecordingSummary
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, rollout
from tests.recording.sources import SamplesInMemory

pytestmark = pytest.mark.pure

HOUR = timedelta(hours=1)
NOW = START + 6 * HOUR + 30 * MINUTE
SPEC: RolloutSpec = rollout(
    budget(),
    budget("score", threshold=20.0, minutes=120, area="quality"),
    metrics={"score": Metric(every=HOUR, lag=2 * HOUR)},
)


def samples(hours: int) -> list[Sample]:
    minutes = [("p95", minute) for minute in range(1, 60 * hours + 1)]
    scores = [("score", 60 * hour) for hour in range(1, hours + 1)]
    return [
        Sample(at(minute), metric, version, 100.0, 50.0)
        for metric, minute in (*minutes, *scores)
        for version in (RELEASE, BASELINE)
    ]


def read(plan: RecordingPlan, page: timedelta) -> tuple[RecordingInMemory, SamplesInMemory]:
    source, recording = SamplesInMemory(samples(7)), RecordingInMemory(plan)
    asyncio.run(read_pages(source, recording, page=page))
    return recording, source


def test_each_pace_is_recorded_up_to_what_has_come() -> None:
    plan = plan_between(SPEC, START, NOW, now=NOW)
    assert {pace.series: pace.end for pace in plan.paces} == {("p95",): at(388), ("score",): at(240)}
    recording, source = read(plan, 2 * HOUR)
    assert {request.step for request in source.requests if request.series == ("score",)} == {HOUR}
    newest = {
        name: max(one.time for one in recording.samples if one.series == name) for name in ("p95", "score")
    }
    assert newest == {"p95": at(388), "score": at(240)}
    found = evaluate(SPEC, recording.samples, start=plan.whole_from, until=plan.end, as_of=plan.as_of(SPEC))
    assert {one.budget: (one.looks, one.unknown_looks) for one in found.budgets} == {
        "latency.p95_delta_pct": (388, 0),
        "quality.score_delta_pct": (4, 0),
    }


def test_the_latest_values_of_a_slow_metric_reach_further_back() -> None:
    plan = plan_of_latest(SPEC, HOUR, now=NOW)
    assert {pace.series: pace.steps for pace in plan.paces} == {("p95",): 60, ("score",): 12}


def test_a_forecast_of_the_latest_values_ends_when_the_latest_of_them_was_decided() -> None:
    late = rollout(budget("score", minutes=120), metrics={"score": Metric(every=HOUR, lag=2 * HOUR)})
    for spec, end in ((SPEC, at(388)), (late, at(240) + 2 * HOUR - timedelta(seconds=90))):
        plan = plan_of_latest(spec, HOUR, now=NOW)
        assert latest_of(spec, plan) == (end - HOUR, end)


def test_a_record_ends_for_a_forecast_when_the_first_pace_to_end_was_decided() -> None:
    hour = {"score": (START, at(240))}
    assert all_decided(SPEC, {**hour, "p95": (START, at(240))}) == at(240)
    assert all_decided(SPEC, hour) == at(360) - timedelta(seconds=90)
    assert all_decided(SPEC, {"of nobody": (START, at(90))}) == at(90)


def test_the_summary_counts_each_pace_in_its_own_steps() -> None:
    plan = plan_between(SPEC, START, NOW, now=NOW)
    recording, _ = read(plan, HOUR)
    summary = RecordingSummary(SPEC, plan)
    for first in range(0, 388, 60):
        last = min(first + 60, 388)
        part = [one for one in recording.samples if at(first) < one.time <= at(last)]
        summary.add(Page(at(first), at(last), part))
    assert {(one.metric, one.version): (one.steps, one.known) for one in summary.series} == {
        ("p95", RELEASE): (388, 388),
        ("p95", BASELINE): (388, 388),
        ("score", RELEASE): (4, 4),
        ("score", BASELINE): (4, 4),
    }
