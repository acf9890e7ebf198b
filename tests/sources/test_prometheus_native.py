"""Native histograms, scraped live by a real Prometheus and read as buckets."""

from __future__ import annotations

import asyncio
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest

from rollback_budget.clock import grid_floor
from rollback_budget.engine.histogram import quantile_in
from rollback_budget.engine.sample import Sample
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.prometheus.source import PrometheusSeries
from rollback_budget.transport.async_client import AiohttpClient
from tests.support.network import wait_until
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [pytest.mark.service, pytest.mark.skipif(not is_installed(), reason=WHY_NOT)]

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
#: Bucket ``k`` of schema 3 ends at ``2 ** (k / 8)``: 90 of 100 end at 1, and 10 of 100 at 2.
SCHEMA, AT_ONE, AT_TWO = 3, 0, 8
HALF_SECOND = timedelta(milliseconds=500)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def whole(field: int, value: bytes) -> bytes:
    """A field with a length: a text, a message, or packed numbers."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def number(field: int, value: bytes) -> bytes:
    return varint(field << 3) + value


def histogram_of(version: str, times: int) -> bytes:
    """``io.prometheus.client.MetricFamily`` with one native histogram, as its .proto numbers the fields."""
    spans = [number(1, zigzag(AT_ONE)) + number(2, varint(1)), number(1, zigzag(7)) + number(2, varint(1))]
    deltas = [90 * times, 10 * times - 90 * times]
    histogram = b"".join(
        [
            number(1, varint(100 * times)),
            varint(2 << 3 | 1) + struct.pack("<d", 110.0 * times),
            number(5, zigzag(SCHEMA)),
            varint(6 << 3 | 1) + struct.pack("<d", 2.0**-128),
            number(7, varint(0)),
            *(whole(12, span) for span in spans),
            *(number(13, zigzag(delta)) for delta in deltas),
        ]
    )
    label = whole(1, b"version") + whole(2, version.encode())
    metric = whole(1, label) + whole(7, histogram)
    family = whole(1, b"latency_seconds") + whole(2, b"Latency.") + number(3, varint(4)) + whole(4, metric)
    return varint(len(family)) + family


@contextmanager
def exporter() -> Iterator[str]:
    """Serves a histogram that grows by 100 events a scrape; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        scrapes = 0

        def do_GET(self) -> None:
            Handler.scrapes += 1
            body = histogram_of("v2", Handler.scrapes)
            self.send_response(200)
            self.send_header("Content-Type", PROTOBUF)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(prometheus: Prometheus, end: datetime) -> list[Sample]:
    metrics = {
        name: Metric(
            kind=kind, query=PrometheusQuery(histogram="latency_seconds", native=True, bounds=bounds)
        )
        for name, kind, bounds in (
            ("p95", MetricKind.QUANTILE, ()),
            ("coarse_p95", MetricKind.QUANTILE, (0.5, 1.5, 4.0)),
            ("seconds", MetricKind.MEAN, ()),
        )
    }
    metrics["up"] = Metric(query="label_replace(up, 'version', 'v2', '', '') # $matchers")
    metrics["other_p95"] = Metric(
        kind=MetricKind.QUANTILE,
        query=PrometheusQuery(histogram='latency_seconds{job="tests"}', native=True, bounds=(1.5,)),
    )
    step = timedelta(seconds=1)
    source = PrometheusSource(conn_id="prometheus", scrape_interval=HALF_SECOND)

    async def ask() -> list[Sample]:
        async with aiohttp.ClientSession() as session:

            async def open_session() -> aiohttp.ClientSession:
                return session

            client = AiohttpClient(open_session, prometheus.url)
            request = SeriesRequest(tuple(metrics), "v2", "v1", end - step, end, step)
            return await PrometheusSeries(client, source, metrics).fetch(request)

    return asyncio.run(ask())


def test_a_native_histogram_is_read_as_buckets_at_its_own_bounds(tmp_path: Path) -> None:
    native = ["--enable-feature=native-histograms"]
    with (
        exporter() as target,
        running_prometheus(tmp_path, [target], scrape_interval="500ms", arguments=native) as prometheus,
    ):
        scraped = "count_over_time(up[1m]) > 6"
        wait_until(lambda: prometheus.query(scraped), what="seven scrapes")
        found = fetch(prometheus, grid_floor(datetime.now(UTC), timedelta(seconds=1)))
    buckets = {s.le: s.value for s in found if s.series == "p95" and s.le is not None}
    total = buckets[math.inf]
    # Two scrapes of 100 events a second, give or take the scrape on the edge.
    assert total == pytest.approx(200, rel=0.6)
    assert buckets[2 ** (-1 / 8)] == 0
    assert buckets[1.0] == pytest.approx(0.9 * total)
    assert buckets[2 ** (7 / 8)] == pytest.approx(0.9 * total)
    assert buckets[2.0] == pytest.approx(total)
    assert 2 ** (7 / 8) < quantile_in(buckets, 0.95) <= 2.0
    coarse = {s.le: s.value for s in found if s.series == "coarse_p95" and s.le is not None}
    assert coarse == pytest.approx({0.5: 0, 1.5: 0.9 * total, 4.0: total, math.inf: total})
    # A second native histogram, and something else beside them.
    other = {s.le: s.value for s in found if s.series == "other_p95" and s.le is not None}
    assert other == pytest.approx({1.5: 0.9 * total, math.inf: total})
    assert [s.value for s in found if s.series == "up"] == [1.0]
    [mean] = [s for s in found if s.series == "seconds"]
    assert (mean.value, mean.n) == (pytest.approx(1.1), pytest.approx(total))
