"""Who gets the requests after a rollback, by metrics that come late: what is not in yet proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from rollback_budget.engine.sample import Sample
from rollback_budget.model.budget import Comparison
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import FlagdTarget, HttpRead, HttpTarget, HttpWrite, Target
from rollback_budget.model.watch_settings import Watch
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.targets.apply import Traffic
from rollback_budget.targets.verification import ReleaseTraffic
from tests.engine.builders import BASELINE, MINUTE, RELEASE, START, at, budget, rollout
from tests.support.rollouts import make_breach

pytestmark = pytest.mark.pure

WATCH = Watch(settle=timedelta(seconds=90))
TARGET = HttpTarget(conn_id="router", read=HttpRead(path="/"), write=HttpWrite(path="/"), deadline=5 * MINUTE)
P95, SCORE = budget(), budget("score", Comparison.DELTA_PCT, 20.0, area="quality")


class LateSource:
    """A hundred requests a minute, half of them to the release up to a minute; values come so late.

    :param lags: of each series: how long after the end of its look a value is there.
    :param release_later: how much later those of the release are.
    """

    def __init__(
        self, lags: dict[str, timedelta], *, served_until: float = 0, release_later: timedelta = timedelta(0)
    ) -> None:
        self.now = START
        self.lags = lags
        self.served_until = served_until
        self.release_later = release_later
        #: By which time a value counts; by arrival, its lag is in the time already.
        self.arrives: frozenset[str] = frozenset()
        self.asked: list[SeriesRequest] = []

    async def fetch(self, request: SeriesRequest) -> list[Sample]:
        self.asked.append(request)
        return list(self._samples(request))

    def _samples(self, request: SeriesRequest) -> Iterator[Sample]:
        time = request.start + request.step
        while time <= request.end:
            for series in request.series:
                happened = time - self.lags[series] if series in self.arrives else time
                serves = happened <= at(self.served_until)
                for version, share in ((RELEASE, 0.5 if serves else 0.0), (BASELINE, 0.5 if serves else 1.0)):
                    late = timedelta(0) if series in self.arrives else self.lags[series]
                    late += self.release_later if version == RELEASE else timedelta(0)
                    if time + late <= self.now and share:
                        yield Sample(time, series, version, 1.0, 100 * share * (request.step / MINUTE))
            time += request.step

    def traffic(self, spec: RolloutSpec, now: datetime, since: datetime = START) -> Traffic:
        """Return what the first look at the traffic after a rollback says ``now``."""
        self.now = now
        self.asked.clear()

        async def open_source(_spec: RolloutSpec) -> Source:
            return self

        with asyncio.Runner() as runner:
            observe = ReleaseTraffic(
                spec,
                open_source,
                runner,
                breaches=[make_breach(budget=one.id, metric=one.metric) for one in spec.budgets],
                now=lambda: self.now,
            )
            observe.baseline_problems(since)
            self.asked.clear()
            return observe(since)


def late_spec(lag: timedelta = 2 * MINUTE, target: Target | None = TARGET) -> RolloutSpec:
    return rollout(P95, watch=WATCH, metrics={"p95": Metric(lag=lag)}, target=target)


#: Every ten seconds from the rollback to its deadline.
MOMENTS = [START + timedelta(seconds=seconds) for seconds in range(0, 301, 10)]


def test_a_metric_that_is_later_than_the_watch_settles_is_asked_for_up_to_where_it_is_in() -> None:
    source, spec = LateSource({"p95": 2 * MINUTE}), late_spec()
    shares = {}
    for now in MOMENTS:
        shares[now] = source.traffic(spec, now).share
        assert all(request.end <= now - 2 * MINUTE for request in source.asked)
    # The first whole minute after the change ends at 2, and is in at 4.
    assert [shares[at(minute)] for minute in (3, 4, 5)] == [None, 0.0, 0.0]
    assert source.traffic(spec, at(5)).said == "0 of 200 requests since the change"
    assert source.traffic(spec, at(3.9)).said == "no whole bucket since the change yet"


def test_a_release_whose_newest_values_are_not_in_yet_is_not_taken_for_drained() -> None:
    source = LateSource({"p95": timedelta(seconds=30)}, served_until=60, release_later=timedelta(seconds=90))
    seen = [source.traffic(late_spec(), now) for now in MOMENTS]
    assert not any(traffic.is_drained for traffic in seen)
    assert seen[-1].share == 0.5


def test_metrics_that_come_after_the_deadline_are_left_out_and_said() -> None:
    slow = Metric(every=5 * MINUTE, lag=MINUTE)
    spec = rollout(P95, SCORE, watch=WATCH, metrics={"score": slow}, target=TARGET)
    source = LateSource({"p95": MINUTE, "score": MINUTE})
    traffic = source.traffic(spec, at(5))
    assert {request.series for request in source.asked} == {("p95",)}
    assert traffic.share == 0.0
    assert traffic.recovery is not None
    assert traffic.recovery.said.endswith(
        "whether score recovers cannot be known at once: a value is up to 6 min late"
    )
    prompt = spec.model_copy(update={"target": TARGET.model_copy(update={"deadline": 6 * MINUTE})})
    source.traffic(prompt, at(12))
    assert {request.series for request in source.asked} == {("p95",), ("score",)}


def test_a_rollback_that_no_metric_can_prove_in_time_is_said_not_to_be_checked() -> None:
    source = LateSource({"p95": 10 * MINUTE})
    traffic = source.traffic(late_spec(10 * MINUTE), at(5))
    assert (traffic.share, traffic.knowable) == (None, False)
    assert traffic.said == "cannot be known: every metric comes too late"
    assert source.asked == []


@pytest.mark.parametrize(
    "target",
    [FlagdTarget(path="flags.json", flag="model"), TARGET],
)
def test_the_deadline_of_every_kind_of_target_counts(target: Target) -> None:
    source = LateSource({"p95": 3 * MINUTE})
    assert source.traffic(late_spec(3 * MINUTE, target), at(5)).share == 0.0


def test_values_that_arrive_after_the_rollback_about_requests_from_before_are_left_out() -> None:
    by_arrival = Metric(lag=2 * MINUTE, bucket_by=BucketBy.ARRIVAL)
    spec = rollout(SCORE, watch=WATCH, metrics={"score": by_arrival}, target=TARGET)
    source = LateSource({"score": 2 * MINUTE})
    source.arrives = frozenset({"score"})
    spec = spec.model_copy(update={"target": TARGET.model_copy(update={"deadline": 6 * MINUTE})})
    shares = [source.traffic(spec, at(minute)).share for minute in (1, 2, 3, 4, 5, 5.5, 6)]
    assert shares == [None] * 5 + [0.0] * 2
    too_late = spec.model_copy(
        update={"metrics": {"score": by_arrival.model_copy(update={"lag": 4 * MINUTE})}}
    )
    assert not source.traffic(too_late, at(0)).knowable


@pytest.mark.parametrize(("second", "knowable"), [(1, True), (59, True), (61, False), (170, False)])
def test_a_first_whole_look_that_ends_after_the_deadline_is_not_waited_for(
    second: int, knowable: bool
) -> None:
    """A look of 3 min, a minute late: it depends on the moment whether one is in within 5 min."""
    metric = {"p95": Metric(every=3 * MINUTE, lag=MINUTE)}
    spec = rollout(P95, watch=WATCH, metrics=metric, target=TARGET)
    source = LateSource({"p95": MINUTE})
    rolled_back_at = START + 3 * MINUTE - timedelta(seconds=second)
    assert source.traffic(spec, rolled_back_at, since=rolled_back_at).knowable is knowable
