"""What an ``http`` connection means, on an event loop and in a task: the same."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.exceptions import SourceError
from rollback_budget.hooks.http import close_shared_session, open_blocking_http_client, open_http_client
from rollback_budget.transport.errors import TransportError
from rollback_budget.transport.response import Response
from tests.support.http_server import Answer, HttpServer, running_http_server

pytestmark = [pytest.mark.airflow, pytest.mark.service]

Get = Callable[[], Response]
TEN_SECONDS = timedelta(seconds=10)


def get_async() -> Response:
    async def run() -> Response:
        try:
            return await (await open_http_client("api")).request("GET", "x", timeout=TEN_SECONDS)
        finally:
            await close_shared_session()

    return asyncio.run(run())


def get_blocking() -> Response:
    with open_blocking_http_client("api") as client:
        return client.request("GET", "x", timeout=TEN_SECONDS)


@pytest.fixture(params=[get_async, get_blocking], ids=["async", "blocking"])
def get(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Get:
    monkeypatch.setenv("NO_PROXY", "*")
    found: Get = request.param
    return found


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with running_http_server() as running:
        yield running


def connect(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", **connection}))


def basic(login: str, password: str) -> str:
    return f"Basic {b64encode(f'{login}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("connection", "authorization"),
    [
        ({}, None),
        ({"login": "mé", "password": "pass:wörd"}, basic("mé", "pass:wörd")),
        ({"login": "me"}, basic("me", "")),
        ({"password": "t0ken"}, "Bearer t0ken"),
        ({"extra": {"authorization": "Token x"}}, "Token x"),
        ({"password": "t0ken", "extra": {"authorization": "Token x"}}, "Token x"),
        ({"login": "me", "password": "p", "extra": {"Authorization": "Token x"}}, basic("me", "p")),
    ],
)
def test_login_password_and_headers_are_read_alike(
    get: Get,
    server: HttpServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    connection: Mapping[str, Any],
    authorization: str | None,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login intruder password x\n")
    monkeypatch.setenv("NETRC", str(netrc))
    connect(monkeypatch, host=server.url, **connection)
    assert get().ok
    assert server.asked[0].headers.get("authorization") == authorization


def test_options_are_no_headers_and_headers_are_text(
    get: Get, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "verify": False,
        "timeout": 5,
        "allow_redirects": True,
        "check_response": False,
        "stream": True,
    }
    connect(monkeypatch, host=server.url, extra={**options, "X-Tenant": 7})
    assert get().ok
    sent = server.asked[0].headers
    assert sent["x-tenant"] == "7"
    assert not sent.keys() & options.keys()


@pytest.mark.parametrize("host", ["127.0.0.1/base", "http://127.0.0.1/base", "127.0.0.1/base/"])
def test_a_port_belongs_to_the_host_and_not_behind_the_path(
    get: Get, server: HttpServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    connect(monkeypatch, host=host, port=server.port)
    assert get().ok
    assert server.asked[0].path == "/base/x"


@pytest.mark.parametrize("extra", [{"max_redirects": 0}, {"allow_redirects": False}])
def test_a_connection_may_forbid_redirects(
    get: Get, server: HttpServer, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
) -> None:
    server.answer = lambda asked: Answer(302, b"", {"Location": "/y"}) if asked.path == "/x" else Answer()
    connect(monkeypatch, host=server.url)
    assert get().ok
    connect(monkeypatch, host=server.url, extra=extra)
    assert get().status == 302


def test_a_proxy_of_the_connection_is_used(
    get: Get, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    connect(monkeypatch, host="http://backend.invalid", extra={"proxy": server.url})
    assert get().ok
    assert server.asked[0].path == "http://backend.invalid/x"


@pytest.mark.parametrize("connection", [None, {"password": "s3cret"}], ids=["missing", "without a host"])
def test_a_connection_that_cannot_be_used_is_named_and_its_content_is_not(
    get: Get, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any] | None
) -> None:
    if connection is not None:
        connect(monkeypatch, **connection)
    with pytest.raises((SourceError, TransportError), match=r"api.* cannot be used") as caught:
        get()
    assert not caught.value.transient
    assert "s3cret" not in str(caught.value)
