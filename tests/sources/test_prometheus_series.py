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

from rollback_budget.engine.frame import quantile_in
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.base import SeriesRequest
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
    twice = [0.0] * 12 + [1.0] * 3 + [0.0] * 3 + [1.0] * 27
    yield from scraped("incident_before_and_after_restart_total", twice, version="v2")
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
    assert asking.forms[0]["query"].count("latency_seconds_bucket") == 1
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
    assert values(found) == dict.fromkeys(range(3, 11), 0.0)


def test_what_is_absent_beside_a_total_is_unknown_unless_said_to_be_zero(asking: Asking) -> None:
    query = {"failures": "failures_total{code='7'}", "total": "requests_total"}
    unknown = asking.one(MetricKind.PROPORTION, **query)
    assert values(unknown) == {}
    assert {s.n for s in unknown} == {80}
    assert set(values(asking.one(MetricKind.PROPORTION, **query, absent="zero")).values()) == {1.0}
    count = {"events": "born_at_one_total", "total": "requests_total", "absent": "zero"}
    assert values(asking.one(MetricKind.COUNT, **count)) == dict.fromkeys(range(1, 11), 0.0)
    assert (
        asking.one(MetricKind.PROPORTION, failures="failures_total", total="nothing_total", absent="zero")
        == []
    )


def test_a_counter_that_restarts_loses_nothing(asking: Asking) -> None:
    requests = asking.one(MetricKind.MEAN, sum="resets_total", total="resets_total")
    assert {s.n for s in requests} == {40, 30}
    count = values(asking.one(MetricKind.COUNT, events="incident_before_and_after_restart_total"))
    # 1 before the restart, and 1 again after it, in the same step: a plain difference would see none.
    assert sum(count.values()) == pytest.approx(2, abs=0.3)


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


def test_a_scrape_interval_that_is_too_short_leaves_counters_unknown(prometheus: Prometheus) -> None:
    asking = Asking(prometheus)
    assert asking.one(MetricKind.COUNT, events="rare") == []
    slow = Asking(prometheus, SOURCE.model_copy(update={"scrape_interval": MINUTE}))
    assert len(values(slow.one(MetricKind.COUNT, events="rare"))) == 10


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
    asking.samples(metrics, step=second, end=minute(0) + 11_000 * second)
    assert len(asking.forms) == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("requests_total{$matchers}", "more than one value"),
        ("sum(requests_total{$matchers})", "without the label 'version'"),
        ("sum by (version (x{$matchers}))", "Prometheus answered 400"),
        ("busy{$matchers} * on (pod) failures_total{$matchers}", "422"),
    ],
)
def test_a_query_that_no_retry_mends_says_so(asking: Asking, query: str, wanted: str) -> None:
    with pytest.raises(SourceError, match=wanted) as raised:
        asking.samples({"m": Metric(query=query)})
    assert not raised.value.transient


def test_a_metric_without_a_query_says_what_to_add(asking: Asking) -> None:
    with pytest.raises(SourceError, match=r"metrics\.m\.query") as raised:
        asking.samples({})
    assert not raised.value.transient
