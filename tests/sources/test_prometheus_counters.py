"""No event of a counter is lost between two looks, and none counted twice, on a real Prometheus.

Many counters with gaps, births, restarts of one of two pods, steps back and every alignment of scrape and
step, drawn from a seed; what is true of each is known from how it was drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from rollback_budget.engine.sample import Sample
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.prometheus.promql import Counters
from rollback_budget.sources.prometheus.samples import AnswerSamples
from tests.sources.prometheus_day import MINUTE, line, minute
from tests.sources.test_prometheus_series import Asking
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

CASES = 150
MINUTES = 30
#: Scraped from ten minutes before noon on.
FIRST_S = -600


@dataclass
class Pod:
    """One pod's counters, scrape by scrape; None is a scrape that failed."""

    name: str
    every_s: int
    first_s: float
    requests: list[int | None] = field(default_factory=list)
    incidents: list[int | None] = field(default_factory=list)
    #: What happened, by the time of the scrape that saw it first: requests and incidents.
    seen: list[tuple[float, int, int]] = field(default_factory=list)


@dataclass
class Case:
    """Counters of one metric; ``birth``: the series of incidents is not there before the first."""

    number: int
    step: timedelta
    birth: bool
    pods: list[Pod]

    @classmethod
    def drawn(cls, number: int) -> Case:
        draw = random.Random(number)
        step = timedelta(seconds=draw.choice([30, 60, 60, 120]))
        every_s = draw.choice([15, 15, 30, 60])
        gap = sorted(draw.uniform(0, MINUTES * 60) for _ in range(2)) if draw.random() < 0.5 else (0.0, 0.0)
        birth = draw.random() < 0.5
        restarts = draw.random() < 0.7
        pods = [_pod(draw, name, every_s, gap, birth=birth, restarts=restarts) for name in ("a", "b")]
        return cls(number, step, birth, pods)

    def lines(self) -> Iterator[str]:
        for pod in self.pods:
            for kind, values in (("requests", pod.requests), ("incidents", pod.incidents)):
                for at, value in enumerate(values):
                    if value is not None:
                        labels = {"version": "v2", "pod": pod.name}
                        at_s = pod.first_s + at * pod.every_s
                        yield line(f"case{self.number}_{kind}_total", labels, value, at_s)

    def truth(self) -> tuple[int, int]:
        """Return the requests and incidents whose scrapes lie in the time that is looked at."""
        seen = [one for pod in self.pods for one in pod.seen if 0 < one[0] <= MINUTES * 60]
        return sum(one[1] for one in seen), sum(one[2] for one in seen)

    def metric(self) -> Metric:
        query = PrometheusQuery(
            events=f"case{self.number}_incidents_total",
            total=f"case{self.number}_requests_total",
            absent="zero",
        )
        return Metric(kind=MetricKind.COUNT, query=query)


def _pod(draw: random.Random, name: str, every_s: int, gap: Any, *, birth: bool, restarts: bool) -> Pod:
    pod = Pod(name, every_s, FIRST_S + draw.uniform(0, every_s - 0.001))
    scrapes = (MINUTES * 60 + 300 - FIRST_S) // every_s
    restart = draw.randrange(scrapes // 3, scrapes) if restarts and draw.random() < 0.7 else scrapes
    back = draw.randrange(scrapes // 3, scrapes - 8) if draw.random() < 0.5 else scrapes
    requests, incidents, was_seen, unseen = 1000, 0 if birth else 7, False, [0, 0]
    for scrape in range(scrapes):
        at_s = pod.first_s + scrape * every_s
        if scrape == restart:
            requests, incidents = 0, 0
            new = [0, 0]
        else:
            # Nothing happens in the first scrapes after a restart, else nobody could see all of it.
            happens = at_s > 0 and not restart <= scrape < restart + 120 // every_s + 1
            new = [draw.randrange(1, 30), int(happens and draw.random() < 0.02)]
            requests, incidents = requests + new[0], incidents + new[1]
        unseen = [unseen[0] + new[0], unseen[1] + new[1]]
        if gap[0] < at_s <= gap[1] and not restart - 1 <= scrape <= restart:
            pod.requests.append(None)
            pod.incidents.append(None)
            continue
        pod.seen.append((at_s, unseen[0], unseen[1]))
        unseen = [0, 0]
        was_seen = was_seen or incidents > 0 or not birth
        # For one scrape it shows what another replica saw a while ago.
        around = (at_s - every_s, at_s + every_s)
        whole = around[1] <= MINUTES * 60 and not any(gap[0] < one <= gap[1] for one in around)
        stale = scrape == back and whole and not restart - 4 <= scrape <= restart + 4
        pod.requests.append(requests - (5 if stale else 0))
        # Of one or two incidents, a step back is told from a restart by the requests.
        back_by = int(stale and incidents > (2 if restarts else 0))
        pod.incidents.append(incidents - back_by if was_seen else None)
    return pod


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case.drawn(number) for number in range(CASES)]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, cases: list[Case]) -> Iterator[Prometheus]:
    lines = (one for case in cases for one in case.lines())
    with running_prometheus(tmp_path_factory.mktemp("counters"), backfill=lines) as running:
        yield running


def read(prometheus: Prometheus, case: Case, **changes: Any) -> list[Sample]:
    source = PrometheusSource(conn_id="prometheus", scrape_interval=timedelta(seconds=case.pods[0].every_s))
    changes = {"step": case.step, "end": minute(MINUTES), **changes}
    return Asking(prometheus, source).samples({"m": case.metric()}, **changes)


def test_over_the_window_every_event_is_counted_once(prometheus: Prometheus, cases: list[Case]) -> None:
    wrong = []
    for case in cases:
        found = read(prometheus, case)
        counted = sum(s.n or 0 for s in found), sum(s.value for s in found)
        if counted != case.truth():
            wrong.append((case.number, counted, case.truth()))
    assert wrong == []


def test_looked_at_one_by_one_and_replayed_the_samples_are_the_same(
    prometheus: Prometheus, cases: list[Case]
) -> None:
    for case in cases[:15]:
        starts = [minute(0) + k * case.step for k in range(MINUTES * MINUTE // case.step)]
        one_by_one = [
            sample
            for start in starts
            for sample in read(prometheus, case, start=start, end=start + case.step)
        ]
        assert one_by_one == read(prometheus, case), case


def test_the_cheap_query_for_counters_that_did_not_fall_gives_what_the_whole_one_gives(
    prometheus: Prometheus, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [read(prometheus, case) for case in cases]
    everywhere = {"v2": dict.fromkeys(range(MINUTES * 2), Counters.FELL)}
    monkeypatch.setattr(AnswerSamples, "not_so", property(lambda answer: everywhere, lambda *_: None))
    assert first == [read(prometheus, case) for case in cases]
