"""What the prometheus source makes of answers that are no samples: which of them a retry may fix."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import inf

import aiohttp
import pytest

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.prometheus.source import PrometheusSeries
from rollback_budget.transport.async_client import AiohttpClient
from tests.sources.prometheus_day import MINUTE, minute, scraped
from tests.support.fault_proxy import Answers, Fault, FaultProxy, Loses, running_fault_proxy
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

METRICS = {"busy": Metric(query=PrometheusQuery(gauge="busy"))}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    busy = scraped("busy", [1.0] * 60, version="v2")
    with running_prometheus(tmp_path_factory.mktemp("answers"), backfill=busy) as running:
        yield running


@pytest.fixture
def proxy(prometheus: Prometheus) -> Iterator[FaultProxy]:
    with running_fault_proxy(prometheus.port) as running:
        yield running


def fetch(
    url: str,
    timeout: timedelta = timedelta(seconds=10),
    metrics: Mapping[str, Metric] = METRICS,
) -> list[Sample]:
    async def ask() -> list[Sample]:
        async with aiohttp.ClientSession() as session:

            async def open_session() -> aiohttp.ClientSession:
                return session

            source = PrometheusSource(conn_id="prometheus", timeout=timeout)
            request = SeriesRequest(tuple(metrics), "v2", "v1", minute(0), minute(10), MINUTE)
            return await PrometheusSeries(AiohttpClient(open_session, url), source, metrics).fetch(request)

    return asyncio.run(ask())


def refusal(url: str, timeout: timedelta = timedelta(seconds=10)) -> SourceError:
    with pytest.raises(SourceError) as raised:
        fetch(url, timeout)
    return raised.value


def refused(kind: str, said: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": said}).encode()


def answered(**more: object) -> bytes:
    data = {"resultType": "matrix", "result": []}
    return json.dumps({"status": "success", "data": data, **more}).encode()


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (422, refused("execution", "query processing would load too many samples"), False),
        (422, refused("execution", "expanding series: context deadline exceeded"), True),
        (400, refused("bad_data", "parse error"), False),
        (401, b"Unauthorized", False),
        (403, b"Forbidden", False),
        (404, b"404 page not found", False),
        (429, b"slow down", True),
        (500, b"", True),
        (502, b"<html>Bad Gateway</html>", True),
        (503, refused("timeout", "query timed out in expression evaluation"), True),
        (200, b"<html>Please sign in</html>", True),
        (200, answered()[:-3], True),
        (200, b"[]", True),
        (200, b'{"status": "success", "data": {"resultType": "vector", "result": []}}', True),
        (200, answered(data={"resultType": "matrix", "result": [{"metric": {}}]}), True),
        (200, refused("internal", "mmap"), True),
        (200, refused("bad_data", "parse error"), False),
        (200, answered(warnings=["No StoreAPIs matched for this query"]), True),
        (200, answered(warnings=["receive series from Addr: store-1: rpc error"]), True),
        (200, answered(isPartial=True), True),
        (200, answered(warnings=["PromQL warning: encountered a mix of histograms and floats"]), False),
    ],
)
def test_an_answer_without_all_samples_is_an_error_that_knows_if_another_try_may_help(
    proxy: FaultProxy, status: int, body: bytes, transient: bool
) -> None:
    proxy.faults.append(Fault("POST", "query_range", Answers(status, (), body)))
    assert refusal(proxy.url).transient is transient
    assert proxy.passed == []
    assert len(fetch(proxy.url)) == 10


def test_remarks_about_the_query_are_no_errors(proxy: FaultProxy) -> None:
    remark = "PromQL info: metric might not be a counter, name does not end in _total"
    for said in ({"infos": [remark]}, {"warnings": [remark]}, {"warnings": []}):
        proxy.faults.append(Fault("POST", "query_range", Answers(200, (), answered(**said))))
        assert fetch(proxy.url) == []


def series(values: float, **labels: str) -> dict[str, object]:
    return {
        "metric": {"version": "v2", **labels},
        "values": [[minute(number).timestamp(), str(values)] for number in range(1, 11)],
    }


def test_two_spellings_of_a_bucket_bound_are_one_bound(proxy: FaultProxy) -> None:
    found = {("1", 4), ("1.0", 2), ("+Inf", 7)}
    result = [series(count, rollback_budget="0", le=le) for le, count in sorted(found)]
    body = answered(data={"resultType": "matrix", "result": result})
    proxy.faults.append(Fault("POST", "query_range", Answers(200, (), body)))
    metrics = {"p95": Metric(kind=MetricKind.QUANTILE, query=PrometheusQuery(histogram="latency_seconds"))}
    scale = fetch(proxy.url, metrics=metrics)
    one, every = ({s.value for s in scale if s.le == bound} for bound in (1.0, inf))
    assert len(scale) == 20
    assert one.pop() / every.pop() == pytest.approx(6 / 7)


def test_what_cannot_be_read_of_one_metric_leaves_the_others(proxy: FaultProxy) -> None:
    result = [series(1, rollback_budget="0"), series(2, rollback_budget="0"), series(3, rollback_budget="1")]
    body = answered(data={"resultType": "matrix", "result": result})
    proxy.faults.append(Fault("POST", "query_range", Answers(200, (), body)))
    metrics = {name: Metric(query=PrometheusQuery(gauge=name)) for name in ("broken", "busy")}
    found = fetch(proxy.url, metrics=metrics)
    assert {s.value for s in found if s.series == "busy"} == {3.0}
    assert {s.fault is not None for s in found if s.series == "broken"} == {True}


@pytest.mark.parametrize("header", ["7", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_the_backend_says_how_long_to_wait(proxy: FaultProxy, header: str) -> None:
    proxy.faults.append(Fault("POST", "query_range", Answers(429, (("Retry-After", header),), b"")))
    waits = refusal(proxy.url).retry_after
    assert waits is not None
    assert waits >= timedelta(seconds=7)


def test_without_that_the_reset_of_its_rate_limit_says_it(proxy: FaultProxy) -> None:
    limits = (("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9"))
    proxy.faults.append(Fault("POST", "query_range", Answers(429, limits, b"")))
    assert refusal(proxy.url).retry_after == timedelta(seconds=9)
    proxy.faults.append(Fault("POST", "query_range", Answers(500, limits, b"")))
    assert refusal(proxy.url).retry_after is None


def test_a_lost_connection_and_a_query_out_of_time_may_pass(proxy: FaultProxy) -> None:
    proxy.faults.append(Fault("POST", "query_range", Loses.REPLY))
    assert refusal(proxy.url).transient
    assert refusal("http://127.0.0.1:9").transient
    # The server itself gives up, because it gets a time-out.
    said = refusal(proxy.url, timedelta(0))
    assert said.transient
    assert "Prometheus" in str(said)
