"""What comes late is reported and changes no decision; a source that says so is waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from rollback_budget.engine import Sample, evaluate
from rollback_budget.engine.evaluation import Evaluation, Late, VerdictKind
from rollback_budget.engine.late_data import LateData
from rollback_budget.model.budget import Budget, Comparison, Tier, Worse
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.source import PrometheusSource, SqlSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, arm, at, budget, rollout

pytestmark = pytest.mark.pure

WINDOW = 90


class Log:
    """A request log whose rows arrive at times of their own."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.rows: list[tuple[datetime, Sample]] = []
        self.requests: list[SeriesRequest] = []

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        self.requests.append(request)
        arrived: dict[object, Sample] = {}
        for came_at, sample in self.rows:
            if came_at <= self.now and request.start < sample.time <= request.end:
                arrived[sample.time, sample.version] = sample
        return list(arrived.values())


class IngestedLog(Log):
    """The same, with a column that says when each row was written."""

    async def settled_until(self) -> datetime | None:
        return max((sample.time for came_at, sample in self.rows if came_at <= self.now), default=None)


def spec(**source: object) -> RolloutSpec:
    plain = rollout(budget(), minutes=WINDOW, watch=Watch(settle=timedelta(0)))
    return plain.model_copy(update={"source": SqlSource(conn_id="log", **source)})  # type: ignore[arg-type]


def slow_release(onset: int) -> list[Sample]:
    release = [1.6 if minute < onset else 2.1 for minute in range(1, WINDOW + 1)]
    return arm(RELEASE, release, n=200) + arm(BASELINE, [1.6] * WINDOW, n=200)


def watch(log: Log, rollout_spec: RolloutSpec) -> tuple[Evaluation | None, Watcher]:
    async def open_source(_spec: RolloutSpec) -> Source:
        return log

    async def run() -> Evaluation | None:
        for minute in range(1, WINDOW + 1):
            log.now = at(minute)
            verdict = await watcher.look()
            if verdict is not None:
                return verdict
        return None

    plan = WatchPlan(spec=rollout_spec, window_start=START, window_end=START + rollout_spec.window)
    watcher = Watcher(plan, open_source, log=logging.getLogger(__name__), now=lambda: log.now)
    return asyncio.run(run()), watcher


def test_late_rows_are_counted_logged_once_and_decide_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(START)
    samples = slow_release(onset=20)
    hidden = {at(minute) for minute in range(40, 45)}
    for sample in samples:
        came_at = sample.time + (3 * MINUTE if sample.time in hidden else timedelta(0))
        if sample.version == RELEASE and sample.time == at(30):
            log.rows.append((came_at, sample._replace(value=1.6)))
            came_at += 2 * MINUTE
        log.rows.append((came_at, sample))
    rollout_spec = spec(late=timedelta(minutes=5))
    verdict, _ = watch(log, rollout_spec)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BREACH
    # Five looks of both arms, and one value that was corrected.
    assert verdict.late == Late(samples=11, newest=at(44))
    assert verdict.budgets[0].late_looks == 5
    replayed = evaluate(rollout_spec, samples, start=START)
    assert replayed.breaches[0].breached_at < verdict.breaches[0].breached_at
    said = [line.split()[0] for line in caplog.messages if "came late" in line]
    assert said == ["1", "2", "8"]


def test_without_lateness_every_bucket_is_asked_for_once() -> None:
    log = Log(START)
    log.rows = [(sample.time, sample) for sample in slow_release(onset=WINDOW + 1)]
    watch(log, spec(late=timedelta(0)))
    assert all(request.end - request.start == MINUTE for request in log.requests)
    assert LateData(timedelta(0)).notice([log.rows[0][1]], START) == []


def test_looks_wait_for_the_watermark_and_decide_as_replay_does() -> None:
    samples = slow_release(onset=20)
    log = IngestedLog(START)
    log.rows = [(sample.time + 7 * MINUTE, sample) for sample in samples]
    verdict, _ = watch(log, spec())
    replayed = evaluate(spec(), samples, start=START)
    assert verdict is not None
    assert verdict.breaches == replayed.breaches
    assert verdict.late is None
    assert log.now == replayed.breaches[0].breached_at + 7 * MINUTE


def test_a_watermark_that_stops_makes_the_watch_blind_instead_of_good() -> None:
    log = IngestedLog(START)
    log.rows = [(sample.time, sample) for sample in slow_release(onset=WINDOW + 1) if sample.time <= at(30)]
    rollout_spec = spec()
    verdict, _ = watch(log, rollout_spec)
    assert verdict is not None
    assert verdict.verdict is VerdictKind.BLIND
    assert log.now == at(30) + rollout_spec.watch.blind_after


def prometheus_spec(*budgets: Budget) -> RolloutSpec:
    metrics = {"incidents": Metric(kind=MetricKind.COUNT)}
    plain = rollout(*budgets, minutes=WINDOW, watch=Watch(settle=timedelta(0)), metrics=metrics)
    return plain.model_copy(update={"source": PrometheusSource(conn_id="prometheus")})


def test_prometheus_is_read_again_every_five_minutes_and_not_with_every_poll() -> None:
    log = Log(START)
    log.rows = [(sample.time, sample) for sample in slow_release(WINDOW)]
    watch(log, prometheus_spec(budget()))
    again = [one.end for one in log.requests if one.end - one.start > MINUTE]
    assert {later - earlier for earlier, later in pairwise(again)} == {5 * MINUTE}
    # Reach, interval and one new look, so that every look is read again once it is 15 minutes old.
    assert max(one.end - one.start for one in log.requests) == 21 * MINUTE
    for minute in range(1, WINDOW - 25):
        last = max(one.end for one in log.requests if one.start < at(minute) <= one.end)
        assert last >= at(minute + 15)


def test_samples_that_remote_write_brings_six_minutes_late_are_reported() -> None:
    log = Log(START)
    log.rows = [
        (sample.time + (6 * MINUTE if at(30) < sample.time <= at(38) else timedelta(0)), sample)
        for sample in slow_release(WINDOW)
    ]
    verdict, _ = watch(log, prometheus_spec(budget()))
    assert verdict is not None
    assert verdict.late == Late(samples=16, newest=at(38))


@pytest.mark.parametrize("revised", [float("nan"), -5.0, float("inf")])
@pytest.mark.parametrize("version", [RELEASE, BASELINE])
def test_events_that_are_read_again_as_no_number_of_events_stay_what_they_were(
    version: str, revised: float
) -> None:
    rule = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, worse=Worse.HIGHER, tier=Tier.A)
    log = Log(START)
    for each in (RELEASE, BASELINE):
        for sample in arm(each, [float(k == 8) for k in range(1, WINDOW + 1)], metric="incidents", n=100):
            log.rows.append((sample.time, sample))
            if each == version and sample.time == at(8):
                log.rows.append((at(9), sample._replace(value=revised)))
    verdict, _ = watch(log, prometheus_spec(rule))
    assert verdict is not None
    assert verdict.verdict is VerdictKind.HEALTHY
    assert verdict.late is not None


@pytest.mark.parametrize("late_version", [RELEASE, BASELINE])
def test_events_that_come_late_for_a_look_without_data_count_from_the_next_look_on(late_version: str) -> None:
    """An incident of the release counts; one of the baseline excuses one of the release."""
    rule = budget("incidents", Comparison.INCREASE, 0.0, minutes=0, worse=Worse.HIGHER, tier=Tier.A)
    log = Log(START)
    for version in (RELEASE, BASELINE):
        happened = (
            {20 if version == BASELINE else 40}
            if late_version == BASELINE
            else {20 if version == RELEASE else -1}
        )
        for sample in arm(
            version, [float(k in happened) for k in range(1, WINDOW + 1)], metric="incidents", n=100
        ):
            late = version == late_version and at(15) < sample.time <= at(25)
            log.rows.append((sample.time + (7 * MINUTE if late else timedelta(0)), sample))
    verdict, _ = watch(log, prometheus_spec(rule))
    assert verdict is not None
    if late_version == BASELINE:
        assert verdict.verdict is VerdictKind.HEALTHY
    else:
        assert verdict.verdict is VerdictKind.BREACH
        assert at(26) < verdict.breaches[0].breached_at <= at(33)
