"""Which rollouts of a ledger a rule can be tried on, and what is said about all of them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest

from rollback_budget.backtest.trial import read_record, try_rule
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.budget import Comparison, Method, Worse
from rollback_budget.model.choice import RULE
from rollback_budget.model.metric import BucketBy, Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import Source
from rollback_budget.track_record.past_rollouts import PastRollouts, past_rollouts
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, RELEASE, START, arm, at, budget, rollout
from tests.support.simulated_watch import Backend
from tests.track_record.rollouts import key, slow, watch

pytestmark = pytest.mark.database

LOG = logging.getLogger(__name__)
LATER = START + timedelta(days=1)


def past(ledger: Ledger, *specs: RolloutSpec, now: datetime = LATER) -> PastRollouts:
    return past_rollouts(ledger, specs or [rollout(budget())], None, now)


def test_a_quantile_that_is_decided_by_a_histogram_is_said_to_be_decided_otherwise(ledger: Ledger) -> None:
    watch(ledger, 1, rollout(budget(), minutes=120), slow(range(0)))
    quantile = {"p95": Metric(kind=MetricKind.QUANTILE)}
    by_evidence = rollout(budget(method=Method.AUTO), metrics=quantile)
    (note,) = [one for one in past(ledger, by_evidence).notes if "histogram" in one]
    assert note.startswith("latency.p95_delta_pct: looks hold no histograms, so sign decides it here")
    assert not any("histogram" in one for one in past(ledger, rollout(budget(), metrics=quantile)).notes)


def test_a_metric_with_another_query_than_now_is_said(ledger: Ledger) -> None:
    watch(ledger, 1, rollout(budget(), minutes=120), slow(range(0)))
    other = rollout(budget(), metrics={"p95": Metric(query="SELECT 1")})
    assert (
        "p95 had another query in 1 rollout: its values may mean something else" in past(ledger, other).notes
    )
    assert not any("another query" in one for one in past(ledger).notes)


@pytest.mark.parametrize(
    ("by", "meaning"),
    [
        (BucketBy.EVENT, "its looks hold what had come until they were decided then"),
        (BucketBy.ARRIVAL, "how much after shipping is left out is as it was then"),
    ],
)
def test_a_metric_with_another_lag_than_now_is_said(ledger: Ledger, by: BucketBy, meaning: str) -> None:
    def with_lag(minutes: float) -> RolloutSpec:
        metric = Metric(lag=timedelta(minutes=minutes), bucket_by=by)
        return rollout(budget(), budget("ttft"), minutes=120, metrics={"p95": metric})

    watch(ledger, 1, with_lag(20), slow(range(0)))
    (note,) = [one for one in past(ledger, with_lag(5)).notes if "lag" in one]
    assert note == f"p95 had a lag of 20 min in 1 rollout, and has 5 min now: {meaning}"
    assert not any("lag" in one for one in past(ledger, with_lag(20)).notes)


def test_a_late_start_is_a_hole_only_where_the_watch_had_begun_and_would_have_looked(ledger: Ledger) -> None:
    grace = Watch(grace=timedelta(minutes=40), stuck_after=timedelta(days=30))
    watch(ledger, 1, rollout(budget(), minutes=120, watch=grace), slow(range(0)))
    # One look an hour: the first one comes after an hour.
    hourly = [one for one in slow(range(0)) if one.time in (at(60), at(120))]
    slow_watch = Watch(step=timedelta(hours=1), max_gap=timedelta(hours=2), stuck_after=timedelta(days=30))
    watch(ledger, 2, rollout(budget(), minutes=120, watch=slow_watch), hourly)
    watch(ledger, 3, rollout(budget(), minutes=120), slow(range(0)))
    of_an_hour = (key(2), "p95 was looked at every 1 h then, and is every 1 min now")
    assert [one.key for one in past(ledger).recordings] == [key(1), key(3)]
    assert [(one.key, one.reason) for one in past(ledger).left_out] == [of_an_hour]
    ledger.looks.prune(at(20))
    found = past(ledger)
    assert [one.key for one in found.recordings] == [key(1)]
    assert {(one.key, one.reason) for one in found.left_out} == {
        of_an_hour,
        (key(3), "its first 20 minutes are not in the ledger: they were pruned, or nobody watched"),
    }
    by_the_hour = rollout(budget(), minutes=120, watch=slow_watch)
    assert [one.key for one in past(ledger, by_the_hour).recordings] == [key(2)]


def test_a_rollout_whose_every_metric_is_slow_and_late_has_no_hole_at_its_start(ledger: Ledger) -> None:
    hour = timedelta(hours=1)
    slow_metric = {"p95": Metric(every=hour, lag=2 * hour)}
    spec = rollout(budget(minutes=60), minutes=6 * 60, metrics=slow_metric)
    hourly = [one for one in slow(range(0), length=6 * 60) if one.time.minute == 0]
    watch(ledger, 1, spec, hourly)
    assert [one.key for one in past(ledger, spec).recordings] == [key(1)]


def test_a_rollout_that_is_still_watched_or_that_nobody_watched_is_left_out(
    ledger: Ledger,
) -> None:
    spec = rollout(budget(), minutes=120)
    ledger.rollouts.open(key(1), spec, START)
    ledger.rollouts.record_shipped(key(1), START, START + spec.window)
    (one,) = past(ledger, now=at(60)).left_out
    assert one.reason == "it is still watched"
    (one,) = past(ledger).left_out
    assert "holds no look of it" in one.reason


def test_runs_of_one_release_are_told_apart_by_their_names(ledger: Ledger) -> None:
    for number in (1, 2):
        watch(ledger, number, rollout(budget(), minutes=120), slow(range(0)))
    names = [one.name for one in past(ledger).recordings]
    assert names == ["model-v42 manual__1", "model-v42 manual__2"]


async def test_what_a_live_watch_recorded_leads_its_own_rule_to_its_own_breach(ledger: Ledger) -> None:
    """The watcher polls, its writer writes, and the recording is tried by the rule that was watched."""
    spec = rollout(
        budget(minutes=5),
        budget("task_success", Comparison.DELTA_PP, -2.0, minutes=20, worse=Worse.LOWER, method=Method.AUTO),
        minutes=240,
        metrics={"task_success": Metric(kind=MetricKind.PROPORTION)},
        watch=Watch(settle=timedelta(0), stuck_after=timedelta(days=30)),
    )
    success = [0.9 if minute < 60 else 0.6 for minute in range(1, 241)]
    backend = Backend(
        [
            *arm(RELEASE, success, metric="task_success", n=210),
            *arm(BASELINE, [0.9] * 240, metric="task_success", n=210),
            *arm(RELEASE, [1.6 + minute % 7 / 10 for minute in range(240)], n=210),
            *arm(BASELINE, [1.6] * 240, n=210),
        ]
    )
    ledger.rollouts.open(key(1), spec, START)
    ledger.rollouts.record_shipped(key(1), START, START + spec.window)
    minute = 0
    writer = LookWriter(lambda: ledger.looks, log=LOG, batch_wait=timedelta(0), now=lambda: at(minute))
    plan = WatchPlan(spec=spec, window_start=START, window_end=START + spec.window, rollout=key(1))

    async def open_source(_spec: RolloutSpec) -> Source:
        return backend

    watcher = Watcher(plan, open_source, log=LOG, looks=writer, now=lambda: at(minute))
    verdict = None
    while verdict is None:
        minute += 1
        verdict = await watcher.look()
    assert writer.flush(timedelta(seconds=30))
    (breach,) = verdict.breaches
    ledger.final_decisions.take(key(1), FinalDecision.ROLLED_BACK, RULE, breach.sentence, breach.breached_at)

    (recording,) = past(ledger, spec).recordings
    trial = try_rule(read_record(spec, recording))
    assert trial.deciding is not None
    assert (trial.deciding.budget, trial.deciding.at) == (breach.budget, breach.breached_at)
    assert trial.deciding.method is breach.method is Method.SEQUENTIAL
    assert trial.deciding.p_value == breach.p_value
