"""A day with a regression in a real Prometheus: the watch comes to the verdict of the recorded series."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path

import aiohttp
import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.engine import evaluate
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.engine.sample import Sample
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest, Source
from rollback_budget.sources.prometheus.source import PrometheusSeries
from rollback_budget.transport.async_client import AiohttpClient
from rollback_budget.watch.watch_plan import WatchPlan
from rollback_budget.watch.watcher import Watcher
from tests.sources.prometheus_day import MINUTE, line, minute, scraped
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

BUDGET = """\
release: model-v42
baseline: model-v41
window: 24h
rollback_budget:
  quality:
    task_success_delta_pct: -2.0
    max_duration_min: 20
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  latency:
    p95_delta_pct: +15
    max_duration_min: 30
source: {type: prometheus, conn_id: prometheus, scrape_interval: 30s}
metrics:
  task_success: {kind: proportion, query: {failures: failures_total, total: requests_total}}
  high_severity_incidents: {kind: count, query: {events: incidents_total, total: requests_total}}
  p95: {kind: quantile, unit: s, query: {histogram: latency_seconds}}
"""
VERSIONS = ("model-v41", "model-v42")
DAY = 24 * 60
#: From this minute on the release is a third slower.
ONSET = 10 * 60
PER_SCRAPE = 15
BOUNDS = (*(0.5 * 1.1**power for power in range(16)), math.inf)
#: Counters that have counted for long: the first increase of one that begins at zero is read too low.
BEFORE = 10_000


@cache
def counted() -> dict[str, dict[str, list[int]]]:
    """By version and column: how many requests in each scrape failed, and fell into each bucket."""
    draw = random.Random(42)
    columns: dict[str, dict[str, list[int]]] = {}
    for version in VERSIONS:
        failures, buckets = [], [[0] * (2 * DAY) for _ in BOUNDS]
        for scrape in range(2 * DAY):
            slow = 1.33 if version == "model-v42" and scrape >= 2 * ONSET else 1.0
            failures.append(sum(draw.random() < 0.03 for _ in range(PER_SCRAPE)))
            for _ in range(PER_SCRAPE):
                latency = draw.lognormvariate(math.log(0.8 * slow), 0.3)
                buckets[next(at for at, bound in enumerate(BOUNDS) if latency <= bound)][scrape] += 1
        cumulative = list(
            accumulate(buckets, lambda below, own: [b + o for b, o in zip(below, own, strict=True)])
        )
        columns[version] = {"failures": failures} | {
            str(bound): column for bound, column in zip(BOUNDS, cumulative, strict=True)
        }
    return columns


def scrapes() -> Iterator[str]:
    def counter(name: str, increases: list[int], **labels: str) -> Iterator[str]:
        values = accumulate((0, 0, *increases), initial=BEFORE)
        return scraped(name, map(float, values), first_s=-60, every_s=30, **labels)

    for version, columns in counted().items():
        yield from counter("requests_total", [PER_SCRAPE] * (2 * DAY), version=version)
        yield from counter("failures_total", columns["failures"], version=version)
        yield from counter("incidents_total", [0] * (2 * DAY), version=version)
        for bound in BOUNDS:
            le = "+Inf" if bound == math.inf else str(bound)
            yield from counter("latency_seconds_bucket", columns[str(bound)], version=version, le=le)
    yield line("end", {}, 1.0, DAY * 60)


def recorded() -> list[Sample]:
    """The same day by the minute, as it would have been written down."""
    samples = []
    for version, columns in counted().items():

        def of(column: str, look: int, columns: dict[str, list[int]] = columns) -> float:
            return sum(columns[column][2 * look : 2 * look + 2])

        n = 2.0 * PER_SCRAPE
        for look in range(DAY):
            time = minute(look + 1)
            samples.append(Sample(time, "task_success", version, 1 - of("failures", look) / n, n))
            samples.append(Sample(time, "high_severity_incidents", version, 0.0, n))
            samples += [Sample(time, "p95", version, of(str(bound), look), None, bound) for bound in BOUNDS]
    return samples


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("day"), backfill=scrapes()) as running:
        yield running


@pytest.fixture
def spec(tmp_path: Path) -> RolloutSpec:
    path = tmp_path / "model-v42.yaml"
    path.write_text(BUDGET)
    return load_budget(path)


def test_a_watch_on_prometheus_and_a_replay_of_the_recorded_day_agree(
    prometheus: Prometheus, spec: RolloutSpec
) -> None:
    start, end = minute(0), minute(DAY)
    window = WatchPlan(spec=spec, window_start=start, window_end=end)

    async def watch() -> tuple[Evaluation | None, list[Sample]]:
        now = start
        async with aiohttp.ClientSession() as session:

            async def open_session() -> aiohttp.ClientSession:
                return session

            source = PrometheusSeries.of(spec, AiohttpClient(open_session, prometheus.url))

            async def open_source(_spec: RolloutSpec) -> Source:
                return source

            watcher = Watcher(window, open_source, log=logging.getLogger(__name__), now=lambda: now)
            verdict = None
            while verdict is None and now < end + timedelta(minutes=5):
                now += 7 * MINUTE
                verdict = await watcher.look()
            series = ("task_success", "high_severity_incidents", "p95")
            request = SeriesRequest(series, spec.release, spec.baseline, start, end, spec.watch.step)
            return verdict, await source.fetch(request)

    live, fetched = asyncio.run(watch())
    written = recorded()
    replayed = evaluate(spec, written, start=start)
    assert replayed.verdict is VerdictKind.BREACH
    assert minute(ONSET) < replayed.breaches[0].breached_at < minute(ONSET + 120)
    assert live is not None
    for other in (live, evaluate(spec, fetched, start=start)):
        assert [breach.budget for breach in other.breaches] == [breach.budget for breach in replayed.breaches]
        mine, theirs = other.breaches[0], replayed.breaches[0]
        assert (mine.started_at, mine.breached_at) == (theirs.started_at, theirs.breached_at)
        assert mine.sentence == theirs.sentence
    place = {(s.time, s.series, s.version, s.le): (s.value, s.n) for s in fetched}
    assert len(place) == len(written)
    assert all(
        place[s.time, s.series, s.version, s.le] == pytest.approx((s.value, s.n)) for s in written if s.n
    )
    assert all(place[s.time, s.series, s.version, s.le][0] == s.value for s in written if s.le)
