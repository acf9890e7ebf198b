"""The prometheus source through an Airflow connection: TLS, passwords, tokens, paths, and a live service."""

from __future__ import annotations

import asyncio
import http.client
import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.service import SimulatedService
from demo.traffic import Behaviour
from rollback_budget.clock import grid_floor
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.query import PrometheusQuery
from rollback_budget.model.source import PrometheusSource
from rollback_budget.sources.base import SeriesRequest
from tests.engine.builders import BASELINE, RELEASE, budget, rollout
from tests.sources.prometheus_day import MINUTE, minute, scraped
from tests.support.network import wait_until
from tests.support.prometheus import WHY_NOT, Prometheus, is_installed, running_prometheus

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.service,
    pytest.mark.skipif(not is_installed(), reason=WHY_NOT),
]

SECRET = "sec:ret@/42"
# Of SECRET, with bcrypt.
HASHED = "$2b$04$fe4s5m63uGc7oNGSAH4xE.2ZSCzi05wwtUqqlVN9BxHJXvwtQdjDm"
METRICS = {"busy": Metric(query=PrometheusQuery(gauge="busy"))}


def busy() -> Iterator[str]:
    return scraped("busy", [3.0] * 60, version=RELEASE)


def fetch(
    metrics: dict[str, Metric] = METRICS, *, source: PrometheusSource | None = None, **request: Any
) -> Sequence[Sample]:
    spec = rollout(
        *(budget(name) for name in metrics),
        metrics=metrics,
        source=source or PrometheusSource(conn_id="prometheus"),
    )
    wanted = {"start": minute(0), "end": minute(10), "step": MINUTE, **request}

    async def ask() -> Sequence[Sample]:
        try:
            opened = await open_source(spec)
            return await opened.fetch(SeriesRequest(tuple(metrics), RELEASE, BASELINE, **wanted))
        finally:
            await close_shared_session()

    return asyncio.run(ask())


def connect(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS", json.dumps({"conn_type": "http", **connection}))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with TLS, a password and a base path, by its own web configuration."""
    folder = tmp_path_factory.mktemp("guarded")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "ca.pem"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*make, *subject, *files], check=True, capture_output=True)
    web = folder / "web.yml"
    web.write_text(
        f"tls_server_config: {{cert_file: {folder}/ca.pem, key_file: {folder}/key.pem}}\n"
        f"basic_auth_users: {{reader: '{HASHED}'}}\n"
    )
    arguments = [f"--web.config.file={web}", "--web.route-prefix=/metrics/prom"]
    with running_prometheus(folder, arguments=arguments, scheme="https", backfill=busy()) as running:
        yield running


def guarded_by(guarded: Prometheus, **changes: Any) -> dict[str, Any]:
    connection = {
        "host": f"{guarded.url}/metrics/prom",
        "login": "reader",
        "password": SECRET,
        "extra": {"verify": str(guarded.folder / "ca.pem")},
    }
    return {**connection, **changes}


def test_tls_a_password_and_a_base_path_come_from_the_connection(
    guarded: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, **guarded_by(guarded))
    assert [sample.value for sample in fetch()] == [3.0] * 10
    connect(monkeypatch, **guarded_by(guarded, extra={"verify": False}))
    assert len(fetch()) == 10
    connect(monkeypatch, **guarded_by(guarded, extra={"verify": False, "authorization": "Bearer of-old"}))
    assert len(fetch()) == 10


def test_a_wrong_password_is_no_transient_error_and_stays_secret(
    guarded: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, **guarded_by(guarded, login="nobody"))
    with pytest.raises(SourceError, match="401") as raised:
        fetch()
    assert not raised.value.transient
    assert SECRET not in str(raised.value)
    connect(monkeypatch, **guarded_by(guarded, extra={}))
    with pytest.raises(SourceError, match=r"(?i)certificate"):
        fetch()


@contextmanager
def gate(upstream: Prometheus) -> Iterator[int]:
    """A gateway that lets a token and a tenant in, under a path of its own, as Mimir's does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = (self.path, self.headers.get("Authorization"), self.headers.get("X-Scope-OrgID"))
            if asked != ("/tenant/prometheus/api/v1/query_range", f"Bearer {SECRET}", "team-a"):
                self.send_error(401)
                return
            server = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=10)
            headers = {"Content-Type": self.headers["Content-Type"]}
            server.request("POST", "/api/v1/query_range", body, headers)
            reply = server.getresponse().read()
            server.close()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_and_a_tenant_come_from_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_prometheus(tmp_path, backfill=busy()) as prometheus, gate(prometheus) as port:
        host = "127.0.0.1/tenant/prometheus"
        tenant = {"X-Scope-OrgID": "team-a"}
        connect(monkeypatch, host=host, port=port, password=SECRET, extra=tenant)
        assert len(fetch()) == 10
        header = {"Authorization": f"Bearer {SECRET}", **tenant}
        connect(monkeypatch, host=host, port=port, schema="http", extra=header)
        assert len(fetch()) == 10
        connect(monkeypatch, host=host, port=port, password=SECRET)
        with pytest.raises(SourceError, match="401"):
            fetch()


LIVE = {
    "task_success": Metric(
        kind=MetricKind.PROPORTION,
        query=PrometheusQuery(failures="assistant_failures_total", total="assistant_requests_total"),
    ),
    "incidents": Metric(
        kind=MetricKind.COUNT,
        query=PrometheusQuery(events="assistant_incidents_total", total="assistant_requests_total"),
    ),
    "p95": Metric(kind=MetricKind.QUANTILE, query=PrometheusQuery(histogram="assistant_latency_seconds")),
}
STEP = timedelta(seconds=2)


def test_a_live_service_is_read_as_its_own_log_has_it_and_is_unknown_once_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "requests.db"
    behaviours = {BASELINE: Behaviour(), RELEASE: Behaviour(success=0.5, incident=0.1)}
    source = PrometheusSource(conn_id="prometheus", scrape_interval=timedelta(seconds=1))

    def read(start: datetime, end: datetime) -> Sequence[Sample]:
        return fetch(LIVE, source=source, start=start, end=end, step=STEP)

    with SimulatedService(behaviours, database=database, rate=200) as service:
        service.router.change({BASELINE: 0.5, RELEASE: 0.5})
        target = service.url.removeprefix("http://")
        with running_prometheus(tmp_path / "prometheus", [target]) as prometheus:
            connect(monkeypatch, host=prometheus.url)
            scrapes = "count_over_time(assistant_requests_total[1h]) > 9"
            wait_until(lambda: prometheus.query(scrapes), what="ten scrapes")
            end = grid_floor(datetime.now(UTC), STEP)
            start = end - 3 * STEP
            found = [s for s in read(start, end) if s.version == RELEASE]
            logged, succeeded, incidents = _logged(database, start, end)
            # A scrape looks at most a second back.
            near = pytest.approx(1.0, rel=0.35)
            assert _sum(found, "task_success", count=True) / logged == near
            assert _sum(found, "task_success") / succeeded == near
            assert _sum(found, "incidents") == int(_sum(found, "incidents"))
            assert _sum(found, "incidents") == pytest.approx(incidents, rel=0.6, abs=8)
            assert _sum(found, "p95", le=float("inf")) / logged == near
            service.stop()
            gone = datetime.now(UTC)
            wait_until(lambda: not prometheus.query("assistant_requests_total"), what="staleness")
            wait_until(lambda: time.time() > gone.timestamp() + 6, what="three steps")
            assert read(grid_floor(gone, STEP) + 2 * STEP, grid_floor(datetime.now(UTC), STEP)) == []


def _sum(samples: Sequence[Sample], series: str, *, count: bool = False, le: float | None = None) -> float:
    found = [s for s in samples if s.series == series and s.le == le]
    if count:
        return sum(s.n or 0.0 for s in found)
    weights = series == "task_success"
    return sum(s.value * ((s.n or 0.0) if weights else 1.0) for s in found)


def _logged(database: Path, start: datetime, end: datetime) -> tuple[int, int, int]:
    with closing(sqlite3.connect(database)) as connection:
        columns, place = "count(*), sum(success), sum(incident)", "version = ? AND ts > ? AND ts <= ?"
        statement = f"SELECT {columns} FROM requests WHERE {place}"
        row = connection.execute(statement, (RELEASE, start.timestamp(), end.timestamp())).fetchone()
    return int(row[0]), int(row[1]), int(row[2])
