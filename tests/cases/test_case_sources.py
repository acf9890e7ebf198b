"""Where failing requests are found: real databases, and a local server that answers as APIs document it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from sqlalchemy import Engine, create_engine, text

from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.cases.http import open_http_cases
from rollback_budget.cases.query import FailureQuery
from rollback_budget.cases.sql import SqlFailures
from rollback_budget.cases.upload import read_upload
from rollback_budget.exceptions import CaseError, SourceError
from rollback_budget.model.budget import Worse
from rollback_budget.model.case_source import (
    CaseLog,
    CaseRequest,
    HttpJsonCases,
    LangfuseCases,
    PhoenixCases,
    ScoreRule,
    SqlCases,
)
from rollback_budget.model.sql_table import Flag, RequestLog
from rollback_budget.transport.async_client import AiohttpClient

pytestmark = [pytest.mark.database, pytest.mark.service]

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
QUESTION = FailureQuery(
    metric="task_success",
    slice=None,
    release="v2",
    baseline="v1",
    start=NOON,
    end=NOON + timedelta(minutes=20),
    bound=None,
    worse=Worse.LOWER,
    limit=100,
)
LOG = RequestLog(
    table="requests", time="ts", time_type="epoch_s", success=Flag(column="success"), latency="latency_s"
)
CASES = CaseLog(output="output", trace_id="trace_id", slice="country", metadata=("tool",))


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A request log: every minute four requests of each version, of which one fails."""
    url = f"sqlite:///{tmp_path / 'requests.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg2://")
    made = create_engine(url)
    with made.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE requests (ts DOUBLE PRECISION, version TEXT, success INT, latency_s"
                " DOUBLE PRECISION, country TEXT, trace_id TEXT, input TEXT, output TEXT, tool TEXT)"
            )
        )
        rows = [
            {
                "ts": (NOON + timedelta(minutes=minute, seconds=15 * part)).timestamp(),
                "version": version,
                "success": None if part == 3 else int(part != 1),
                "latency_s": 1.0 + part,
                "country": "de" if minute % 10 == 0 else "en",
                "trace_id": f"{version}-{minute}-{part}",
                "input": f"question {minute}-{part}",
                "output": "answer",
                "tool": None if part else "search",
            }
            for minute in range(-30, 60)
            for part in range(4)
            for version in ("v1", "v2")
        ]
        columns = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.execute(text(f"INSERT INTO requests ({columns}) VALUES ({values})"), rows)
    yield made
    made.dispose()


def failing(source: SqlCases, engine: Engine, question: FailureQuery = QUESTION) -> list[FailedRequest]:
    return asyncio.run(SqlFailures(source, LOG, engine).failing(question))


def test_a_table_gives_the_requests_that_failed_in_the_window_and_no_others(engine: Engine) -> None:
    found = failing(SqlCases(conn_id="x", request_log=CASES), engine)
    assert {one.trace_id for one in found} == {f"v2-{minute}-1" for minute in range(20)}
    first = next(one for one in found if one.trace_id == "v2-0-1")
    assert (first.input, first.output, first.slice) == ("question 0-1", "answer", "de")
    assert first.time == NOON + timedelta(seconds=15)
    assert first.metadata == {}


def test_a_slow_release_gives_the_requests_beyond_the_budget(engine: Engine) -> None:
    slow = replace(QUESTION, metric="p95", bound=3.5, worse=Worse.HIGHER)
    found = failing(SqlCases(conn_id="x", request_log=CASES), engine, slow)
    assert {one.trace_id for one in found} == {f"v2-{minute}-3" for minute in range(20)}


def test_a_slice_gives_only_its_requests(engine: Engine) -> None:
    found = failing(SqlCases(conn_id="x", request_log=CASES), engine, replace(QUESTION, slice="de"))
    assert {one.trace_id for one in found} == {"v2-0-1", "v2-10-1"}


def test_few_of_many_are_spread_over_the_window_and_the_slices(engine: Engine) -> None:
    hour = replace(QUESTION, end=NOON + timedelta(minutes=60), limit=8)
    found = failing(SqlCases(conn_id="x", request_log=CASES), engine, hour)
    assert [one.slice for one in found].count("de") == 4
    minutes = sorted(int(str(one.trace_id).split("-")[1]) for one in found if one.slice == "en")
    assert minutes[0] < 25
    assert minutes[-1] > 40
    assert failing(SqlCases(conn_id="x", request_log=CASES), engine, hour) == found


def test_a_metric_of_ones_own_names_the_column_that_fails(engine: Engine) -> None:
    with pytest.raises(CaseError, match="does not say which requests fail by refusals"):
        failing(SqlCases(conn_id="x", request_log=CASES), engine, replace(QUESTION, metric="refusals"))
    own = CASES.model_copy(update={"failed": {"refusals": Flag(column="tool", among=("search",))}})
    found = failing(SqlCases(conn_id="x", request_log=own), engine, replace(QUESTION, metric="refusals"))
    assert {one.trace_id for one in found} == {f"v2-{minute}-0" for minute in range(1, 21)}
    assert found[0].metadata == {"tool": "search"}


def test_a_statement_sees_bound_parameters_and_its_further_columns_are_kept(engine: Engine) -> None:
    query = (
        "SELECT input, trace_id, ts AS time, country, 1 - success AS failed FROM requests"
        " WHERE version = :release AND ts > :start_epoch AND ts <= :end_epoch AND success IS NOT NULL"
    )
    hostile = replace(QUESTION, release="v2' OR '1'='1")
    assert failing(SqlCases(conn_id="x", query=query), engine, hostile) == []
    found = failing(SqlCases(conn_id="x", query=query), engine)
    assert {one.trace_id for one in found} == {f"v2-{minute}-1" for minute in range(20)}
    assert found[0].metadata["country"] in ("de", "en")
    with pytest.raises(CaseError, match="no column `input`"):
        failing(SqlCases(conn_id="x", query="SELECT ts FROM requests"), engine)
    with pytest.raises(SourceError):
        failing(SqlCases(conn_id="x", query="SELECT nonsense FROM nowhere"), engine)


@dataclass
class Api:
    """What is answered to a path and its parameters, and what was asked."""

    answer: Callable[[str, dict[str, list[str]], Any], Any]
    port: int = 0
    asked: list[tuple[str, dict[str, list[str]], Any]] = field(default_factory=list)


@pytest.fixture
def api() -> Iterator[Api]:
    running = Api(lambda *_: {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            running.asked.append((url.path, parse_qs(url.query), body))
            payload = json.dumps(running.answer(*running.asked[-1])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield running
    server.shutdown()
    server.server_close()


def ask(api: Api, source: HttpJsonCases, question: FailureQuery = QUESTION) -> list[FailedRequest]:
    async def run() -> list[FailedRequest]:
        async with aiohttp.ClientSession() as session:

            async def opened() -> aiohttp.ClientSession:
                return session

            client = AiohttpClient(opened, f"http://127.0.0.1:{api.port}")
            return await open_http_cases(source, client).failing(question)

    return asyncio.run(run())


def test_any_json_api_is_read_page_by_page(api: Api) -> None:
    def answer(_path: str, query: dict[str, list[str]], body: Any) -> Any:
        page = int(query.get("cursor", ["0"])[0])
        rows = [
            {"q": f"question {page}-{n}", "a": "no", "ok": n == 0, "at": 1_780_315_200 + page, "id": n}
            for n in range(3)
        ]
        return {"rows": rows, "more": page + 1 if page < 2 else None}

    api.answer = answer
    request = CaseRequest(
        method="POST",
        path="/services/$release/failures",
        query={"cursor": "$cursor", "from": "$start", "part": "$slice"},
        body={"versions": ["$release", "$baseline"], "until": "$end_s"},
        items="rows",
        input="q",
        output="a",
        trace_id="id",
        time="at",
        time_format="epoch_s",
        failed="!ok",
        next="more",
        metadata={"number": "id"},
    )
    found = ask(api, HttpJsonCases(conn_id="x", request=request))
    assert [one.input for one in found] == [f"question {page}-{n}" for page in range(3) for n in (1, 2)]
    assert (found[0].trace_id, found[0].metadata) == ("1", {"number": 1})
    assert api.asked[0] == (
        "/services/v2/failures",
        {"from": ["2026-06-01T12:00:00.000Z"]},
        {"versions": ["v2", "v1"], "until": 1_780_316_400},
    )
    assert len(api.asked) == 3
    with pytest.raises(SourceError, match="must give a list"):
        ask(api, HttpJsonCases(conn_id="x", request=request.model_copy(update={"items": "nothing"})))


def test_langfuse_gives_observations_whose_score_fails(api: Api) -> None:
    def answer(path: str, query: dict[str, list[str]], _body: Any) -> Any:
        if path == "/api/public/v2/scores":
            assert query["name"] == ["task_success"]
            # A full page, and a last one; a boolean score is 0 or 1.
            first = [{"traceId": f"t{n}", "value": n % 2, "dataType": "BOOLEAN"} for n in range(100)]
            last = [{"traceId": "x", "observationId": "o101", "value": 0, "dataType": "NUMERIC"}]
            return {"data": first if query["page"] == ["1"] else last, "meta": {}}
        assert path == "/api/public/v2/observations"
        conditions = {
            (one["column"], one["operator"]): one["value"] for one in json.loads(query["filter"][0])
        }
        assert conditions["version", "="] == "v2"
        assert conditions["startTime", ">"] == "2026-06-01T12:00:00.000Z"
        first_page = "cursor" not in query
        numbers = range(4) if first_page else range(100, 104)
        rows = [
            {
                "id": f"o{n}",
                "traceId": f"t{n}",
                "startTime": "2026-06-01T12:05:00.000Z",
                "input": json.dumps([{"role": "user", "content": f"question {n}"}]),
                "output": "no",
                "metadata": {"country": "de"},
            }
            for n in numbers
        ]
        return {"data": rows, "meta": {"cursor": "next"} if first_page else {}}

    api.answer = answer
    found = ask(api, HttpJsonCases(conn_id="x", langfuse=LangfuseCases(slice="country")))
    assert [one.trace_id for one in found] == ["t0", "t2", "t101"]
    assert found[0].input == [{"role": "user", "content": "question 0"}]
    assert (found[0].slice, found[0].time) == ("de", NOON + timedelta(minutes=5))


def test_langfuse_is_asked_for_slow_observations_without_any_score(api: Api) -> None:
    api.answer = lambda *_: {"data": [], "meta": {}}
    slow = replace(QUESTION, metric="p95", bound=2.5, worse=Worse.HIGHER)
    assert ask(api, HttpJsonCases(conn_id="x", langfuse=LangfuseCases()), slow) == []
    [(path, query, _)] = api.asked
    assert path == "/api/public/v2/observations"
    assert {"type": "number", "column": "latency", "operator": ">", "value": 2.5} in json.loads(
        query["filter"][0]
    )


def test_phoenix_gives_spans_of_the_release_whose_annotation_or_status_fails(api: Api) -> None:
    def span(number: int, version: str, status: str = "OK") -> dict[str, Any]:
        return {
            "context": {"trace_id": f"t{number}", "span_id": f"s{number}"},
            "span_kind": "CHAIN",
            "start_time": "2026-06-01T12:05:00+00:00",
            "end_time": f"2026-06-01T12:05:0{number}+00:00",
            "status_code": status,
            "attributes": {
                "input.value": f"question {number}",
                "output.value": "no",
                "metadata": json.dumps({"version": version, "country": "de"}),
            },
        }

    def answer(path: str, query: dict[str, list[str]], _body: Any) -> Any:
        if path == "/v1/projects/my%20bot/span_annotations":
            assert query["include_annotation_names"] == ["quality"]
            results = {"s0": {"label": "bad"}, "s1": {"score": 0.9}, "s2": {"score": 0.1}}
            rows = [{"span_id": id_, "result": results.get(id_)} for id_ in query["span_ids"]]
            return {"data": rows, "next_cursor": None}
        assert path == "/v1/projects/my%20bot/spans"
        assert query["attribute"] == ['metadata.version:"v2"']
        # A server that does not know the filter answers everything.
        rows = [span(0, "v2"), span(1, "v2"), span(2, "v2"), span(3, "v2", "ERROR"), span(4, "v1", "ERROR")]
        return {"data": rows, "next_cursor": None}

    api.answer = answer
    rules = {"task_success": ScoreRule(name="quality", below=0.5, labels=("bad",))}
    phoenix = PhoenixCases(project="my bot", slice="metadata.country", annotations=rules)
    found = ask(api, HttpJsonCases(conn_id="x", phoenix=phoenix))
    assert [(one.trace_id, one.input, one.slice) for one in found] == [
        ("t0", "question 0", "de"),
        ("t2", "question 2", "de"),
        ("t3", "question 3", "de"),
    ]
    slow = replace(QUESTION, metric="p95", bound=2.5, worse=Worse.HIGHER)
    assert [one.trace_id for one in ask(api, HttpJsonCases(conn_id="x", phoenix=phoenix), slow)] == ["t3"]


def test_pages_that_go_in_a_circle_are_an_error(api: Api) -> None:
    api.answer = lambda *_: {"data": [], "meta": {"cursor": "again"}}
    slow = replace(QUESTION, metric="p95", bound=2.5, worse=Worse.HIGHER)
    with pytest.raises(SourceError, match="no end"):
        ask(api, HttpJsonCases(conn_id="x", langfuse=LangfuseCases()), slow)


def test_an_uploaded_file_is_read_and_every_wrong_line_named(tmp_path: Path) -> None:
    file = tmp_path / "failed.jsonl"
    file.write_text(
        '{"input": "a", "output": "b", "user": 7, "time": "2026-06-01T12:00:00Z"}\n\n"only a text"\n'
    )
    first, second = read_upload(file)
    assert (first.input, first.output, first.metadata, first.time) == ("a", "b", {"user": 7}, NOON)
    assert second.input == "only a text"
    file.write_text('{"output": "b"}\n{"input": "a"}\n{"input": "a", "time": "noon"}\nnonsense\n')
    with pytest.raises(CaseError) as raised:
        read_upload(file)
    assert [line.removeprefix(str(file)).split(":")[1] for line in str(raised.value).split("\n")] == [
        "1",
        "3",
        "4",
    ]
