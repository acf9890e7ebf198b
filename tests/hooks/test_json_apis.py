"""The http_json source, through an Airflow connection and the real client, against a live local server.

No Datadog and no Langfuse answers here: the answers are written in the form that their documentation gives,
Datadog's also in that of a recorded one among the tests of its published client.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isnan
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from rollback_budget.budget_file import load_budget, preflight_problems
from rollback_budget.engine import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_json.datadog import tag_value

pytestmark = pytest.mark.airflow

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = """
release: v2
baseline: v1
window: 24h
rollback_budget: {latency: {p95_delta_pct: +15, max_duration_min: 30}}
"""


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Api:
    """What is answered (status, body, headers), and what was asked."""

    answer: Callable[[Asked], tuple[int, bytes, dict[str, str]]]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    running = Api(lambda _asked: (200, b"{}", {}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            asked = Asked(self.command, url.path, query, headers, json.loads(sent) if sent else None)
            running.asked.append(asked)
            status, body, more = running.answer(asked)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    connection = {
        "conn_type": "http",
        "host": f"http://127.0.0.1:{running.port}/base",
        "login": "pk",
        "password": "sk-secret",
        "extra": {"DD-API-KEY": "secret-key"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
    yield running
    server.shutdown()
    server.server_close()


def load(folder: Path, source: str, rule: str = RULE) -> RolloutSpec:
    path = folder / "v2.yaml"
    path.write_text(rule + source)
    return load_budget(path)


def fetch(spec: RolloutSpec, *series: str, minutes: int = 3, step: timedelta = MINUTE) -> Sequence[Sample]:
    async def ask() -> Sequence[Sample]:
        try:
            source = await open_source(spec)
            request = SeriesRequest(series, "v2", "v1", NOON, NOON + minutes * step, step)
            return await source.fetch(request)
        finally:
            await close_shared_session()

    return asyncio.run(ask())


def says(document: Any, status: int = 200) -> Callable[[Asked], tuple[int, bytes, dict[str, str]]]:
    body = json.dumps(document).encode()
    return lambda _asked: (status, body, {"Content-Type": "application/json"})


POINTS = """
source:
  type: http_json
  conn_id: api
  requests:
    - path: /series/$version
      query: {from: $start, to: $end_s, filter: {step: $step_s, of: [$version, $baseline]}}
      points: data.points
      time: at
      time_format: epoch_ms
      label: start
      series:
        p95: {value: slow, n: count, scale: 0.001}
        errors: {value: failed, divided_by: count, n: count}
"""


def millis(minute: int) -> int:
    return round((NOON + minute * MINUTE).timestamp() * 1000)


def test_ranges_and_versions_are_filled_in_as_data_and_points_are_read(api: Api, tmp_path: Path) -> None:
    hostile = 'v2/../x?y="{$start} $release'
    points = [
        {"at": millis(0), "slow": "2500", "count": 10, "failed": 1},
        {"at": millis(1), "slow": None, "count": 0, "failed": 0},
        {"at": millis(2), "slow": "NaN", "count": None},
        {"at": millis(-1), "slow": 1, "count": 1},
        {"at": millis(3), "slow": 1, "count": 1},
    ]
    api.answer = says({"data": {"points": points}})
    spec = load(tmp_path, POINTS, RULE.replace("release: v2", f"release: {json.dumps(hostile)}"))

    async def ask() -> Sequence[Sample]:
        try:
            request = SeriesRequest(("p95", "errors"), hostile, "v1", NOON, NOON + 3 * MINUTE, MINUTE)
            return await (await open_source(spec)).fetch(request)
        finally:
            await close_shared_session()

    samples = asyncio.run(ask())
    paths = sorted(asked.path for asked in api.asked)
    assert paths[0] == "/base/series/v1"
    assert unquote(paths[1]) == f"/base/series/{hostile}"
    assert paths[1].count("/") == 3
    release = next(asked for asked in api.asked if "%2F" in asked.path)
    assert release.query["from"] == "2026-03-01T12:00:00.000Z"
    assert release.query["to"] == str(int((NOON + 3 * MINUTE).timestamp()))
    assert json.loads(release.query["filter"]) == {"step": 60, "of": [hostile, "v1"]}
    found = {(s.series, s.time): (s.value, s.n) for s in samples if s.version == hostile}
    assert found["p95", NOON + MINUTE] == (2.5, 10)
    assert found["errors", NOON + MINUTE] == (0.1, 10)
    assert isnan(found["p95", NOON + 2 * MINUTE][0])
    assert isnan(found["errors", NOON + 2 * MINUTE][0])
    assert isnan(found["p95", NOON + 3 * MINUTE][0])
    assert found["p95", NOON + 3 * MINUTE][1] is None
    assert len(samples) == 12


def test_points_may_say_metric_and_version_themselves(api: Api, tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "source:\n  type: http_json\n  conn_id: api\n  requests:\n"
        "    - {path: /x, method: POST, body: {until: $end_ms}, points: '[]', version: v, longest: 2m,\n"
        "       metric: \"join(':', [name, part])\", each: {value: y, le: le, judge: by}}\n",
    )
    api.answer = says(
        [
            {
                "time": "2026-03-01T13:01:00+01:00",
                "v": "v1",
                "name": "p95",
                "part": "de",
                "y": 4,
                "le": 2,
                "by": "j",
            }
        ]
    )
    [sample] = fetch(spec, "p95:de")
    assert sample == Sample(NOON + MINUTE, "p95:de", "v1", 4.0, None, 2.0, judge="j")
    # A range that is longer than one request may be.
    assert sorted(asked.body["until"] for asked in api.asked) == [millis(2), millis(3)]


@pytest.mark.parametrize(
    ("answer", "message", "transient", "wait"),
    [
        ((502, b"<html>bad gateway</html>", {}), "answered 502: <html>", True, None),
        ((200, b"<html>please log in</html>", {}), "no JSON", True, None),
        ((200, b'{"data": {"poin', {}), "no JSON", True, None),
        ((200, b"", {"Content-Length": "500"}), "payload is not completed", True, None),
        ((401, b"who are you", {}), "answered 401: who are you", False, None),
        ((429, b"", {"Retry-After": "7"}), "answered 429", True, timedelta(seconds=7)),
        ((429, b"", {"Retry-After": "DATE"}), "answered 429", True, timedelta(seconds=90)),
        ((200, b"{}", {}), r"points \(data.points\) must give a list, and gave None", False, None),
        ((200, b'{"data": {"points": [{"at": "now"}]}}', {}), "must be milliseconds since 1970", False, None),
        (
            (200, b'{"data": {"points": [{"at": 1772366400000, "slow": {}}]}}', {}),
            "must give a number",
            False,
            None,
        ),
        ((200, b'{"data": {"points": [{"at": 1772366400000, "slow": true}]}}', {}), "gave True", False, None),
    ],
)
def test_a_bad_answer_says_what_it_is_and_whether_to_ask_again(
    api: Api,
    tmp_path: Path,
    answer: tuple[int, bytes, dict[str, str]],
    message: str,
    transient: bool,
    wait: timedelta | None,
) -> None:
    status, body, headers = answer
    if headers.get("Retry-After") == "DATE":
        headers = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)}
    api.answer = lambda _asked: (status, body, headers)
    with pytest.raises(SourceError, match=message) as caught:
        fetch(load(tmp_path, POINTS), "p95")
    assert caught.value.transient is transient
    assert (caught.value.retry_after is None) is (wait is None)
    if wait is not None:
        assert abs(caught.value.retry_after - wait) <= timedelta(seconds=3)  # type: ignore[operator]
    assert "secret-key" not in str(caught.value)
    assert "sk-secret" not in str(caught.value)


DATADOG = """
source:
  type: http_json
  conn_id: api
  datadog:
    queries:
      hits: "sum:llm.hits{service:chat} by {version}.as_count()"
      errors: "sum:llm.errors{service:chat} by {version}.as_count()"
      slow: "p95:llm.duration{service:chat} by {version}"
    series:
      task_success: {value: 1 - default_zero(errors) / hits, n: hits}
      p95: {value: slow}
"""


def datadog_says(times: list[int], *series: tuple[int, str, list[float | None]]) -> Any:
    described = [{"group_tags": [tag], "query_index": at, "unit": None} for at, tag, _ in series]
    values = [values for _, _, values in series]
    attributes = {"series": described, "times": times, "values": values}
    return {"data": {"id": "0", "type": "timeseries_response", "attributes": attributes}}


def test_datadog_is_asked_once_for_all_metrics_and_both_versions(api: Api, tmp_path: Path) -> None:
    api.answer = says(
        datadog_says(
            [millis(0), millis(1)],
            (0, "version:v2", [0.9, None]),
            (1, "version:v2", [30, 20]),
            (0, "version:v0", [0.1, 0.1]),
            (2, "version:v1", [1.5, 1.7]),
        )
    )
    samples = fetch(load(tmp_path, DATADOG), "task_success", "p95")
    [asked] = api.asked
    assert (asked.method, asked.path) == ("POST", "/base/api/v2/query/timeseries")
    assert asked.headers["dd-api-key"] == "secret-key"
    attributes = asked.body["data"]["attributes"]
    assert (attributes["from"], attributes["to"], attributes["interval"]) == (millis(0), millis(3), 60_000)
    assert [each["formula"] for each in attributes["formulas"]] == [
        "1 - default_zero(errors) / hits",
        "hits",
        "slow",
    ]
    assert [each["name"] for each in attributes["queries"]] == ["hits", "errors", "slow"]
    found = {(s.series, s.version, s.time): (s.value, s.n) for s in samples}
    assert len(found) == 4
    assert found["task_success", "v2", NOON + MINUTE] == (0.9, 30)
    assert isnan(found["task_success", "v2", NOON + 2 * MINUTE][0])
    assert found["p95", "v1", NOON + 2 * MINUTE] == (1.7, None)


@pytest.mark.parametrize("minutes", [[0, 5, 10, 15, 20, 25], [1.5, 2.5]])
def test_an_interval_that_datadog_enlarged_is_an_error(
    api: Api, tmp_path: Path, minutes: list[float]
) -> None:
    times = [round(millis(0) + minute * 60_000) for minute in minutes]
    api.answer = says(datadog_says(times, (0, "version:v2", [1.0] * len(times))))
    with pytest.raises(SourceError, match=r"intervals of (5m|1m) where 1m was asked for") as caught:
        fetch(load(tmp_path, DATADOG), "p95", minutes=30)
    assert not caught.value.transient


def test_thin_traffic_is_not_taken_for_an_enlarged_interval(api: Api, tmp_path: Path) -> None:
    times = [millis(minute) for minute in (2, 6, 10, 13, 20)]
    api.answer = says(datadog_says(times, (0, "version:v2", [1.0] * 5)))
    assert len(fetch(load(tmp_path, DATADOG), "p95", minutes=30)) == 5


def test_a_day_of_datadog_is_asked_for_in_parts(api: Api, tmp_path: Path) -> None:
    api.answer = says(datadog_says([]))
    assert fetch(load(tmp_path, DATADOG), "p95", minutes=24 * 60) == []
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"errors": "quota exceeded"}, "quota exceeded"),
        ({"data": []}, "another form than documented"),
        (datadog_says([millis(0)], (0, "version:v2", [])), "another form than documented"),
        (datadog_says([], (0, "version:v2", []), (0, "version:v2", [])), "group its queries by version"),
    ],
)
def test_datadog_in_another_form_is_an_error(api: Api, tmp_path: Path, document: Any, message: str) -> None:
    api.answer = says(document)
    with pytest.raises(SourceError, match=message):
        fetch(load(tmp_path, DATADOG), "p95")


def test_versions_are_written_as_datadog_writes_tags() -> None:
    assert tag_value("Model V4.2 (rc)__") == "model_v4.2_rc"


def test_langfuse_is_asked_with_its_limit_and_rows_are_read(api: Api, tmp_path: Path) -> None:
    spec = load(tmp_path, "source: {conn_id: api}\nmetrics: {preset: langfuse}\n")
    rows = [
        {
            "time_dimension": "2026-03-01T12:00:00.000Z",
            "version": "v2",
            "p95_latency": 2500.5,
            "count_count": "6",
        },
        {"time_dimension": "2026-03-01 12:01:00", "version": "v1", "p95_latency": "1800", "count_count": "7"},
        {
            "time_dimension": "2026-03-01T12:03:00.000Z",
            "version": "v2",
            "p95_latency": 9.0,
            "count_count": "1",
        },
        {"time_dimension": "2026-03-01T12:02:00.000Z", "version": None, "p95_latency": 0, "count_count": "0"},
    ]
    api.answer = says({"data": rows})
    samples = fetch(spec, "p95")
    [asked] = api.asked
    assert asked.path == "/base/api/public/v2/metrics"
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"pk:sk-secret").decode()
    query = json.loads(asked.query["query"])
    assert query["config"] == {"row_limit": 1000}
    assert query["timeDimension"] == {"granularity": "minute"}
    assert (query["fromTimestamp"], query["toTimestamp"]) == (
        "2026-03-01T12:00:00.000Z",
        "2026-03-01T12:03:00.000Z",
    )
    assert {"measure": "latency", "aggregation": "p95"} in query["metrics"]
    assert query["filters"][-1]["value"] == ["v2", "v1"]
    assert sorted(samples) == [
        Sample(NOON + MINUTE, "p95", "v2", pytest.approx(2.5005), 6.0),
        Sample(NOON + 2 * MINUTE, "p95", "v1", pytest.approx(1.8), 7.0),
    ]


def test_a_full_page_of_langfuse_is_an_error_and_long_ranges_are_cut(api: Api, tmp_path: Path) -> None:
    spec = load(tmp_path, "source: {conn_id: api, langfuse: {row_limit: 12}}\nmetrics: {preset: langfuse}\n")
    row = {"time_dimension": "2026-03-01T12:00:00.000Z", "version": "v2", "p95_latency": 1, "count_count": 1}
    api.answer = says({"data": [row] * 11})
    fetch(spec, "p95", minutes=4)
    assert len(api.asked) == 2
    api.answer = says({"data": [row] * 12})
    with pytest.raises(SourceError, match=r"the answer is full \(12 points\)") as caught:
        fetch(spec, "p95", minutes=2)
    assert not caught.value.transient


def test_preflight_names_what_is_asked_for_nowhere(tmp_path: Path) -> None:
    rule = RULE + "watch: {step: 5m, max_gap: 5m}\n"
    spec = load(
        tmp_path, "source: {conn_id: api}\nmetrics: {preset: langfuse}\n", rule.replace("p95", "refusals")
    )
    problems = "\n".join(preflight_problems(spec))
    assert "refusals is in none of the `series` of `source.langfuse`" in problems
    assert "`metrics.refusals.every` (by default `watch.step`) must be 1m or 1h" in problems


def test_each_metric_on_langfuse_must_come_by_minute_or_hour(tmp_path: Path) -> None:
    rule = """
release: v2
baseline: v1
window: 24h
rollback_budget:
  quality:
    - {helpfulness_delta_pct: -5, max_duration: 2h}
    - {task_success_delta_pp: -5, max_duration: 2h}
"""
    preset = "source: {conn_id: api}\nmetrics: {preset: langfuse_scores, task_success: {every: 2h}}\n"
    problems = "\n".join(preflight_problems(load(tmp_path, preset, rule)))
    assert "`metrics.task_success.every` (by default `watch.step`) must be 1m or 1h" in problems
    assert "metrics.helpfulness.every" not in problems
