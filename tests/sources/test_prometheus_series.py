"""The prometheus source against a real Prometheus: what it reads, and every known trap on the way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from rollback_budget.engine.histogram import quantile_in
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.prometheus.samples import AnswerSamples
from rollback_budget.sources.prometheus.source import PrometheusSeries
from rollback_budget.transport.async_client import AiohttpClient
from rollback_budget.transport.response import Response
from tests.sources.prometheus_day import MINUTE, minute, scraped
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

ODD = ("v|2", "v.*", 'say "hi"', "back\\slash", "new\nline", "modèle-四十二", "a{b}=~c", "$matchers", "(v1)?")
LONG = 12_000


def steady(name: str, version: str, per_scrape: float, scrapes: int = 45, **labels: str) -> Iterator[str]:
    return scraped(name, (per_scrape * k for k in range(scrapes)), version=version, **labels)


def day() -> Iterator[str]:
    """Ten minutes from noon, in scrapes of 15 s; one metric name a test."""
    for version, failing in (("v1", 1), ("v2", 2)):
        for pod in ("a", "b"):
            yield from steady("requests_total", version, 10, pod=pod, slice="eu")
            yield from steady("failures_total", version, failing, pod=pod, slice="eu")
            yield from steady("sum_total", version, 25 * failing, pod=pod)
        yield from scraped("busy", (float(failing) for _ in range(45)), version=version, pod="a")
        yield from scraped("busy", (float(3 * failing) for _ in range(45)), version=version, pod="b")
        for bound, part in (("0.5", 2), ("1.0", 9), ("+Inf", 10)):
            yield from steady("latency_seconds_bucket", version, part, le=bound)
        yield from steady("latency_seconds_sum", version, 7)
        yield from steady("latency_seconds_count", version, 10)
    # One incident, seen first by the scrape after minute 3, on the edge between two looks.
    yield from scraped("incidents_total", (float(k >= 17) for k in range(45)), version="v2")
    yield from scraped("born_at_one_total", (None if k < 12 else 1.0 for k in range(45)), version="v2")
    resets = [10.0 * k if k < 18 else 10.0 * (k - 18) for k in range(45)]
    yield from scraped("resets_total", resets, version="v2")
    yield from scraped("one_restarts_total", resets, version="v2")
    yield from steady("one_restarts_total", "v1", 10)
    # Minute 3 to 4 has the fourth incident of one life and the first one of the next.
    twice = [3.0] * 13 + [4.0, 0.0, 0.0] + [1.0] * 29
    yield from scraped("incident_before_and_after_restart_total", twice, version="v2")
    # Scrapes 12 to 15 are minute 3 to 4; the first step back lies inside, the other one on the edge.
    yield from scraped("inside_a_look_total", [1.0] * 13 + [0.0] + [1.0] * 31, version="v2")
    yield from scraped("between_two_looks_total", [2.0] * 12 + [1.0] + [2.0] * 32, version="v2")
    # One of two pods is not scraped for more than an hour; it had one incident before, and has one in it.
    for pod, value in (("a", 0.0), ("b", 1.0)):
        yield from scraped("away_total", [value] * 5, first_s=-5400, version="v2", pod=pod)
        yield from scraped(
            "away_requests_total", [10.0 * k for k in range(5)], first_s=-5400, version="v2", pod=pod
        )
    yield from scraped("away_total", [0.0] * 401, first_s=-5325, version="v2", pod="a")
    yield from scraped(
        "away_requests_total", (10.0 * k for k in range(5, 401)), first_s=-5325, version="v2", pod="a"
    )
    yield from scraped("away_total", [2.0] * 30, first_s=120, version="v2", pod="b")
    yield from scraped(
        "away_requests_total", (10.0 * k for k in range(300, 330)), first_s=120, version="v2", pod="b"
    )
    yield from scraped("stepped_back_total", ([7.0] * 12 + [6.0] + [7.0] * 32), version="v2")
    yield from scraped(
        "several_workers_total",
        (100.0 * (k % 4 + 1) + k for k in range(-60, 45)),
        first_s=-960,
        version="v2",
    )
    # Scraped to minute 1:15, and again from 8:15 on; the incident came in between.
    for name, values in (
        ("in_a_gap_total", [7.0] * 30 + [8.0] * 20),
        ("with_a_gap_total", [10.0 * k for k in range(50)]),
    ):
        yield from scraped(
            name, (None if 9 < k < 37 else value for k, value in enumerate(values)), version="v2"
        )
    yield from scraped(
        "rare_incidents_total", (float(k > 5) for k in range(20)), first_s=-300, every_s=60, version="v2"
    )
    yield from steady("ended_total", "v2", 10, scrapes=20)
    yield from scraped("ended_gauge", (5.0 for _ in range(20)), version="v2")
    yield from scraped("odd_gauge", (math.nan if k < 20 else math.inf for k in range(30)), version="v2")
    yield from scraped("rare", (1.0 for _ in range(12)), first_s=-90, every_s=60, version="v2")
    for version in ODD:
        yield from scraped("odd_versions", [float(ODD.index(version))] * 45, version=version)
    yield from scraped("odd_versions", [99.0] * 45, version="v2")
    yield from scraped("odd_versions", [99.0] * 45, version="v")
    yield from scraped("long_gauge", map(float, range(LONG // 15 + 2)), version="v2", first_s=0)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, backfill=day()) as running:
        yield running


@dataclass
class Counting:
    """Counts the requests that pass to a real client."""

    client: AiohttpClient
    forms: list[Mapping[str, str]] = field(default_factory=list)

    async def request(self, method: str, path: str, **options: Any) -> Response:
        self.forms.append(options["form"])
        assert (method, path) == ("POST", "api/v1/query_range")
        return await self.client.request(method, path, **options)


SOURCE = PrometheusSource(conn_id="prometheus", scrape_interval=timedelta(seconds=15))


@dataclass
class Asking:
    """Asks a real Prometheus for metrics that a test describes."""

    prometheus: Prometheus
    source: PrometheusSource = SOURCE
    forms: Sequence[Mapping[str, str]] = ()

    def request(self, *series: str, **changes: Any) -> SeriesRequest:
        values = {
            "series": series,
            "release": "v2",
            "baseline": "v1",
            "start": minute(0),
            "end": minute(10),
            "step": MINUTE,
        }
        return SeriesRequest(**{**values, **changes})

    def many(self, metrics: Mapping[str, Metric], requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
        async def ask() -> list[list[Sample]]:
            async with aiohttp.ClientSession() as session:

                async def open_session() -> aiohttp.ClientSession:
                    return session

                client = Counting(AiohttpClient(open_session, self.prometheus.url))
                try:
                    return await PrometheusSeries(client, self.source, metrics).fetch_many(requests)
                finally:
                    self.forms = client.forms

        return asyncio.run(ask())

    def survey(self, metrics: Mapping[str, Metric]) -> list[str]:
        """Return what is remarked before a release ships."""

        async def ask() -> list[str]:
            async with aiohttp.ClientSession() as session:

                async def open_session() -> aiohttp.ClientSession:
                    return session

                client = AiohttpClient(open_session, self.prometheus.url)
                series = PrometheusSeries(client, self.source, metrics)
                return await series.survey(self.request(*metrics))

        return asyncio.run(ask())

    def one(
        self, kind: MetricKind, version: str = "v2", *, step: timedelta = MINUTE, **query: Any
    ) -> list[Sample]:
        """Return the samples of one metric of one version, in the order of time."""
        metrics = {"m": Metric(kind=kind, query=PrometheusQuery(**query))}
        return self.samples(metrics, version, step=step)

    def samples(
        self, metrics: Mapping[str, Metric], version: str = "v2", series: str = "m", **changes: Any
    ) -> list[Sample]:
        release = {"release": version} if version != "v1" else {}
        found = self.many(metrics, [self.request(series, **{**release, **changes})])[0]
        return sorted((s for s in found if s.version == version), key=lambda s: (s.time, s.le or 0.0))


@pytest.fixture
def asking(prometheus: Prometheus) -> Asking:
    return Asking(prometheus)


def values(samples: Sequence[Sample]) -> dict[int, float]:
    """Values by minute, those of no value left out."""
    return {(s.time - minute(0)) // MINUTE: s.value for s in samples if math.isfinite(s.value)}


def test_all_metrics_and_both_versions_are_one_request(asking: Asking) -> None:
    metrics = {
        "success": Metric(
            kind=MetricKind.PROPORTION,
            query=PrometheusQuery(failures="failures_total", total="requests_total"),
        ),
        "cost": Metric(kind=MetricKind.MEAN, query=PrometheusQuery(sum="sum_total", total="requests_total")),
        "seconds": Metric(kind=MetricKind.MEAN, query=PrometheusQuery(histogram="latency_seconds")),
        "p95": Metric(kind=MetricKind.QUANTILE, query=PrometheusQuery(histogram="latency_seconds")),
        "p99": Metric(kind=MetricKind.QUANTILE, query=PrometheusQuery(histogram="latency_seconds")),
        "busy": Metric(query=PrometheusQuery(gauge="busy")),
        "busiest": Metric(query=PrometheusQuery(gauge="busy", across="max")),
        "own": Metric(query="sum by (version) (rate(requests_total{$matchers}[$window])) # a comment"),
    }
    found = asking.many(metrics, [asking.request(*metrics)])[0]
    assert len(asking.forms) == 1
    # What metrics share is asked for once: six counters, those that are new, that fell, and three others.
    assert asking.forms[0]["query"].count("label_replace(") == 3 * 6 + 2 + 1
    at_five = {(s.series, s.version): s for s in found if s.time == minute(5) and s.le is None}
    assert at_five["success", "v1"].value == pytest.approx(0.9)
    assert at_five["success", "v2"].value == pytest.approx(0.8)
    # Two pods of 4 scrapes of 10 requests each.
    assert at_five["success", "v2"].n == 80
    assert (at_five["cost", "v1"].value, at_five["cost", "v2"].value) == pytest.approx((2.5, 5.0))
    assert (at_five["seconds", "v2"].value, at_five["seconds", "v2"].n) == (pytest.approx(0.7), 40)
    assert (at_five["busy", "v1"].value, at_five["busy", "v2"].value) == (2.0, 4.0)
    assert (at_five["busiest", "v1"].value, at_five["busiest", "v2"].value) == (3.0, 6.0)
    assert at_five["own", "v2"].value == pytest.approx(20 / 15, rel=1e-3)
    buckets = {
        s.le: s.value for s in found if s.series == "p95" and s.version == "v2" and s.time == minute(5)
    }
    assert buckets == {0.5: 8, 1.0: 36, math.inf: 40}
    assert sorted({s.time for s in found}) == [minute(k) for k in range(1, 11)]


def test_a_histogram_whose_name_says_no_quantile_has_a_value_too(asking: Asking) -> None:
    found = asking.one(MetricKind.QUANTILE, histogram="latency_seconds")
    value = next(s for s in found if s.le is None and s.time == minute(5))
    buckets = {s.le: s.value for s in found if s.le is not None and s.time == minute(5)}
    assert (value.value, value.n) == (pytest.approx(quantile_in(buckets, 0.95), nan_ok=True), 40)


def test_an_incident_between_two_looks_is_counted_once_and_whole(asking: Asking) -> None:
    found = asking.one(MetricKind.COUNT, events="incidents_total", total="requests_total")
    assert values(found) == {k: float(k == 4) for k in range(1, 11)}
    assert {s.n for s in found} == {80}


def test_a_counter_born_at_one_has_no_increase_and_is_unknown_before(asking: Asking) -> None:
    found = asking.one(MetricKind.COUNT, events="born_at_one_total", total="requests_total")
    assert values(found) == dict.fromkeys(range(2, 11), 0.0)


def test_where_absence_means_zero_the_birth_of_a_counter_counts(asking: Asking) -> None:
    query = {"events": "born_at_one_total", "total": "requests_total", "absent": "zero"}
    assert values(asking.one(MetricKind.COUNT, **query)) == {k: float(k == 2) for k in range(1, 11)}
    failing = {"failures": "born_at_one_total", "total": "requests_total", "absent": "zero"}
    shares = values(asking.one(MetricKind.PROPORTION, **failing))
    assert shares == pytest.approx({k: 1 - (k == 2) / 80 for k in range(1, 11)})


def test_what_is_absent_beside_a_total_is_unknown_unless_said_to_be_zero(asking: Asking) -> None:
    query = {"failures": "failures_total{code='7'}", "total": "requests_total"}
    unknown = asking.one(MetricKind.PROPORTION, **query)
    assert values(unknown) == {}
    assert {s.n for s in unknown} == {80}
    assert set(values(asking.one(MetricKind.PROPORTION, **query, absent="zero")).values()) == {1.0}
    assert (
        asking.one(MetricKind.PROPORTION, failures="failures_total", total="nothing_total", absent="zero")
        == []
    )


def test_a_counter_that_restarts_loses_nothing(asking: Asking) -> None:
    requests = asking.one(MetricKind.MEAN, sum="resets_total", total="resets_total")
    assert {s.n for s in requests} == {40, 30}
    count = values(asking.one(MetricKind.COUNT, events="incident_before_and_after_restart_total"))
    assert {look: events for look, events in count.items() if events} == {3: 2.0}


def test_only_versions_whose_counters_fell_are_asked_for_a_second_time(asking: Asking) -> None:
    asking.one(MetricKind.COUNT, events="requests_total")
    assert len(asking.forms) == 1
    # The release's counter restarts; the baseline's goes on.
    asking.one(MetricKind.COUNT, version="v2", events="one_restarts_total")
    _, second = asking.forms
    assert '"v2"' in second["query"]
    assert '"v1' not in second["query"]
    # From three steps before the look with the restart on.
    assert float(second["start"]) == minute(4 - 3).timestamp()
    asking.samples(
        {"m": Metric(kind=MetricKind.COUNT, query=PrometheusQuery(events="one_restarts_total"))},
        end=minute(3),
    )
    assert len(asking.forms) == 1


def test_a_step_back_that_keeps_most_of_the_value_is_no_restart(asking: Asking) -> None:
    steps = asking.one(MetricKind.COUNT, events="stepped_back_total")
    assert values(steps) == dict.fromkeys(range(1, 11), 0.0)


@pytest.mark.parametrize("events", ["inside_a_look_total", "between_two_looks_total"])
def test_a_step_back_of_one_or_two_events_is_told_from_a_restart_by_the_total(
    asking: Asking, events: str
) -> None:
    steps = asking.one(MetricKind.COUNT, events=events, total="requests_total")
    assert set(values(steps).values()) == {0.0}


def test_a_step_back_that_the_server_hides_from_resets_counts_nothing(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in Thanos, which deduplicates for `resets()` otherwise than for `last_over_time()`.
    monkeypatch.setattr(AnswerSamples, "not_so", property(lambda answer: {}, lambda *_: None))
    for name in ("stepped_back_total", "inside_a_look_total", "between_two_looks_total"):
        looks = [
            sample
            for k in range(10)
            for sample in asking.samples(
                {"m": Metric(kind=MetricKind.COUNT, query=PrometheusQuery(events=name))},
                start=minute(k),
                end=minute(k + 1),
            )
        ]
        assert set(values(looks).values()) == {0.0}, name


@pytest.mark.parametrize("absent", ["zero", "unknown"])
def test_one_of_two_pods_that_is_away_for_more_than_an_hour_goes_on_from_where_it_was(
    asking: Asking, absent: str
) -> None:
    query = {"events": "away_total", "total": "away_requests_total", "absent": absent}
    counted = asking.one(MetricKind.COUNT, **query)
    assert {at: value for at, value in values(counted).items() if value} == {2: 1.0}
    [back] = [sample for sample in counted if sample.time == minute(2)]
    assert back.n == 40 + 3000 - 40


def test_a_counter_that_falls_again_and_again_is_several_and_unknown(asking: Asking) -> None:
    query = {"failures": "failures_total", "total": "several_workers_total"}
    found = asking.one(MetricKind.PROPORTION, **query)
    assert values(found) == {}
    assert all("several processes" in (s.fault or "") for s in found)
    assert len(found) == 10


def test_what_happens_while_scrapes_fail_counts_at_the_first_look_after(asking: Asking) -> None:
    found = asking.one(MetricKind.COUNT, events="in_a_gap_total", total="with_a_gap_total")
    assert values(found) == {k: float(k == 9) for k in (1, 2, 9, 10)}
    # Eight minutes of requests at once: none of them is lost either.
    assert sum(s.n or 0 for s in found) == 10 * 40


def test_series_that_ended_are_unknown_at_once_and_not_frozen(asking: Asking) -> None:
    # The last scrape is at minute 3:45.
    assert max(values(asking.one(MetricKind.GAUGE, gauge="ended_gauge"))) == 4
    assert max(values(asking.one(MetricKind.COUNT, events="ended_total"))) == 4
    query = {"events": "ended_total", "total": "ended_total"}
    assert max(values(asking.one(MetricKind.PROPORTION, **query))) == 4


def test_nothing_is_asked_for_past_the_end(asking: Asking) -> None:
    asking.one(MetricKind.GAUGE, gauge="busy")
    assert float(asking.forms[0]["start"]) == minute(1).timestamp()
    assert float(asking.forms[0]["end"]) == minute(10).timestamp()
    assert asking.many({}, [asking.request(start=minute(3), end=minute(3))]) == [[]]
    assert asking.forms == []


def test_nan_and_infinite_values_are_no_values(asking: Asking) -> None:
    found = asking.one(MetricKind.GAUGE, gauge="odd_gauge")
    assert values(found) == {}
    assert found


def test_a_scrape_interval_that_is_too_short_loses_no_event(prometheus: Prometheus) -> None:
    asking = Asking(prometheus)
    assert len(values(asking.one(MetricKind.COUNT, events="rare"))) == 10
    often = asking.one(MetricKind.COUNT, events="rare_incidents_total", step=MINUTE / 2)
    assert sum(s.value for s in often) == 1


def test_before_a_release_it_is_said_how_often_the_series_are_scraped(prometheus: Prometheus) -> None:
    asking = Asking(prometheus)
    metrics = {
        "slow": Metric(kind=MetricKind.COUNT, query=PrometheusQuery(events="rare_incidents_total")),
        "right": Metric(kind=MetricKind.COUNT, query=PrometheusQuery(events="requests_total")),
        "gauge": Metric(query=PrometheusQuery(gauge="busy")),
    }
    [remark] = asking.survey(metrics)
    assert remark.startswith("slow is scraped about every 1 min, and source.scrape_interval says 15 s")
    slow = Asking(prometheus, SOURCE.model_copy(update={"scrape_interval": MINUTE}))
    assert slow.survey(metrics) == []


@pytest.mark.parametrize("version", ODD)
def test_versions_are_data_whatever_they_contain(asking: Asking, version: str) -> None:
    metrics = {"m": Metric(query=PrometheusQuery(gauge="odd_versions"))}
    found = asking.many(metrics, [asking.request("m", release=version, baseline="x|v2")])[0]
    assert {(s.version, s.value) for s in found} == {(version, float(ODD.index(version)))}


def test_slices_and_fixed_labels_are_data_too(prometheus: Prometheus) -> None:
    source = SOURCE.model_copy(update={"slice_label": "slice", "labels": {"pod": 'a"b\\'}})
    query = {
        "m": Metric(query=PrometheusQuery(gauge="busy")),
        "c": Metric(kind=MetricKind.COUNT, query=PrometheusQuery(events="requests_total")),
    }
    assert Asking(prometheus, source).samples(query) == []
    source = source.model_copy(update={"labels": {"pod": "a"}})
    assert {s.value for s in Asking(prometheus, source).samples(query)} == {2.0}
    assert {s.value for s in Asking(prometheus, source).samples(query, series="c:eu")} == {40.0}
    assert Asking(prometheus, source).samples(query, series='c:e"}u') == []
    with pytest.raises(SourceError, match="slice_label"):
        Asking(prometheus).samples(query, series="c:eu")


def test_many_rollouts_are_one_request_and_each_gets_its_own_versions(asking: Asking) -> None:
    metrics = {"m": Metric(query=PrometheusQuery(gauge="odd_versions"))}
    requests = [asking.request("m", release=version, baseline="v2") for version in (*ODD, "nobody")]
    answers = asking.many(metrics, requests)
    assert len(asking.forms) == 1
    for version, answer in zip(ODD, answers, strict=False):
        assert {(s.version, s.value) for s in answer} == {(version, float(ODD.index(version))), ("v2", 99.0)}
    assert {s.version for s in answers[-1]} == {"v2"}


def test_more_points_than_prometheus_gives_are_asked_for_in_as_few_requests_as_it_takes(
    asking: Asking,
) -> None:
    second = timedelta(seconds=1)
    source = SOURCE.model_copy(update={"scrape_interval": timedelta(seconds=15)})
    asking = Asking(asking.prometheus, source)
    metrics = {"m": Metric(query=PrometheusQuery(gauge="long_gauge"))}
    found = asking.samples(metrics, step=second, end=minute(0) + LONG * second)
    assert len(asking.forms) == 2
    assert [s.time for s in found] == [minute(0) + k * second for k in range(1, LONG + 1)]
    asking.samples(metrics, step=second, end=minute(0) + 10_997 * second)
    assert len(asking.forms) == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("sum by (version (x{$matchers}))", "Prometheus answered 400"),
        ("busy{$matchers} * on (pod) failures_total{$matchers}", "422"),
    ],
)
def test_a_query_that_no_retry_mends_says_so(asking: Asking, query: str, wanted: str) -> None:
    with pytest.raises(SourceError, match=wanted) as raised:
        asking.samples({"m": Metric(query=query)})
    assert not raised.value.transient


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("requests_total{$matchers}", "more than one value"),
        ("sum(requests_total{$matchers})", "without the label 'version'"),
    ],
)
def test_a_query_whose_values_cannot_be_told_apart_is_a_fault_of_its_metric(
    asking: Asking, query: str, wanted: str
) -> None:
    found = asking.samples({"m": Metric(query=query)})
    assert found
    assert all(s.value != s.value and s.fault is not None and wanted in s.fault for s in found)


def test_a_metric_without_a_query_says_what_to_add(asking: Asking) -> None:
    with pytest.raises(SourceError, match=r"metrics\.m\.query") as raised:
        asking.samples({})
    assert not raised.value.transient
