"""Both clients against a real server: the same answers, the same errors, the same policy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import requests

from rollback_budget.transport.async_client import AiohttpClient
from rollback_budget.transport.client import RequestsClient
from rollback_budget.transport.errors import Failure, TransportError
from rollback_budget.transport.policy import POLICY, TransportPolicy
from rollback_budget.transport.response import Response
from tests.support.http_server import Answer, HttpServer, running_http_server
from tests.support.network import find_free_port

pytestmark = pytest.mark.service

Send = Callable[..., Response]
TOKEN = "Bearer s3cret"


def send_async(
    url: str, method: str, path: str, token: str | None = None, policy: TransportPolicy = POLICY, **how: Any
) -> Response:
    async def run() -> Response:
        async with aiohttp.ClientSession() as session:

            async def open_session() -> aiohttp.ClientSession:
                return session

            headers = {"Authorization": token} if token else {}
            client = AiohttpClient(open_session, url, headers=headers, policy=policy)
            return await client.request(method, path, **{"timeout": timedelta(seconds=10), **how})

    return asyncio.run(run())


def send_blocking(
    url: str, method: str, path: str, token: str | None = None, policy: TransportPolicy = POLICY, **how: Any
) -> Response:
    session = requests.Session()
    session.trust_env = False
    session.headers.update({"Authorization": token} if token else {})
    with RequestsClient(session, url, has_credentials=token is not None, policy=policy) as client:
        return client.request(method, path, **{"timeout": timedelta(seconds=10), **how})


@pytest.fixture(params=[send_async, send_blocking], ids=["async", "blocking"])
def send(request: pytest.FixtureRequest) -> Send:
    found: Send = request.param
    return found


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with running_http_server() as running:
        yield running


@contextmanager
def redirected(server: HttpServer, to: str, status: int = 302) -> Iterator[None]:
    before = server.answer
    server.answer = lambda asked: (
        Answer(status, b"", {"Location": to}) if asked.path.startswith("/old") else before(asked)
    )
    yield


def test_a_request_and_its_answer_are_the_same_for_both(send: Send, server: HttpServer) -> None:
    server.answer = lambda _asked: Answer(418, b'{"a": "\xc3\xa9"}', {"X-Thing": "1", "Retry-After": "7"})
    how = {"query": {"q": "a b&c"}, "headers": {"X-Own": "2"}, "body": {"é": [1, None]}}
    answer = send(f"{server.url}/base/", "POST", "/path", token=TOKEN, **how)
    assert (answer.status, answer.ok, answer.json()) == (418, False, {"a": "é"})
    assert answer.headers["x-thing"] == "1"
    assert answer.retry_after() == timedelta(seconds=7)
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/base/path?q=a+b%26c")
    assert asked.body == b'{"\\u00e9": [1, null]}'
    sent = {name: asked.headers[name] for name in ("content-type", "x-own", "authorization")}
    assert sent == {"content-type": "application/json", "x-own": "2", "authorization": TOKEN}


def test_without_a_path_the_address_of_the_connection_is_asked_as_it_is(
    send: Send, server: HttpServer
) -> None:
    send(f"{server.url}/workflows/x?sig=abc%2Bd", "POST", "", body={})
    assert server.asked[0].path == "/workflows/x?sig=abc%2Bd"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_is_redirected_on_its_own_host_with_its_credentials(
    send: Send, server: HttpServer, status: int
) -> None:
    with redirected(server, "/new?x=1", status):
        assert send(server.url, "GET", "/old", token=TOKEN, query={"secret": "2"}).ok
    assert [asked.path for asked in server.asked] == ["/old?secret=2", "/new?x=1"]
    assert server.asked[1].headers["authorization"] == TOKEN


def test_credentials_never_follow_a_redirect_to_another_host(send: Send, server: HttpServer) -> None:
    with running_http_server() as other, redirected(server, f"{other.url}/new?token=s3cret"):
        answer = send(server.url, "GET", "/old", token=TOKEN)
        assert not other.asked
        assert (answer.status, answer.ok) == (302, False)
        assert f"redirects to '{other.url}/new'" in answer.quote
        assert "another host" in answer.quote
        assert "s3cret" not in answer.quote
        assert send(server.url, "GET", "/old").ok
        assert len(other.asked) == 1
        assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_request_that_writes_is_never_redirected(send: Send, server: HttpServer, status: int) -> None:
    with redirected(server, "/new", status):
        answer = send(server.url, "PUT", "/old", body={})
    assert [asked.method for asked in server.asked] == ["PUT"]
    assert "a PUT is never redirected" in answer.quote
    assert answer.ambiguous is (status == 303)


def test_redirects_end(send: Send, server: HttpServer) -> None:
    with redirected(server, "/old/"):
        answer = send(server.url, "GET", "/old")
        assert len(server.asked) == 1 + POLICY.most_redirects
        assert "at most 5 redirects may be followed" in answer.quote
        send(server.url, "GET", "/old", policy=POLICY.with_redirects(0))
        assert len(server.asked) == 2 + POLICY.most_redirects
    assert POLICY.with_redirects(99).most_redirects == POLICY.most_redirects


@pytest.mark.parametrize("location", ["https://host:port/", "http://[x"])
def test_a_redirect_to_no_address_is_an_answer_that_was_not_followed(
    send: Send, server: HttpServer, location: str
) -> None:
    with redirected(server, location):
        answer = send(server.url, "GET", "/old")
    assert (answer.status, answer.ok, len(server.asked)) == (302, False, 1)
    assert "something that is no address" in answer.quote


@pytest.mark.parametrize("announced", [None, -1], ids=["announced", "not announced"])
def test_an_answer_larger_than_the_limit_is_an_error_that_no_retry_mends(
    send: Send, server: HttpServer, announced: int | None
) -> None:
    small = replace(POLICY, largest_body=1000)
    server.answer = lambda asked: Answer(200, b"x" * int(asked.path[1:]), announced=announced)
    assert len(send(server.url, "GET", "/1000", policy=small).body) == 1000
    with pytest.raises(TransportError, match="more than 1000 bytes") as caught:
        send(server.url, "GET", "/1001", policy=small)
    assert caught.value.failure is Failure.TOO_LARGE
    assert not caught.value.transient
    assert caught.value.ambiguous


def test_nothing_was_sent_when_no_server_listens_and_no_secret_is_said(send: Send) -> None:
    url = f"http://me:s3cret@127.0.0.1:{find_free_port()}"
    with pytest.raises(TransportError, match=r"127\.0\.0\.1") as caught:
        send(url, "PUT", "/x?token=s3cret", query={"key": "s3cret"}, body={"key": "s3cret"})
    assert caught.value.failure is Failure.NO_CONNECTION
    assert caught.value.transient
    assert not caught.value.ambiguous
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, Answer(200, b"{", announced=500)], ids=["none", "half"])
def test_a_lost_answer_leaves_open_whether_the_request_took_effect(
    send: Send, server: HttpServer, answer: Answer | None
) -> None:
    server.answer = lambda _asked: answer
    with pytest.raises(TransportError) as caught:
        send(server.url, "POST", "/x", body={})
    assert caught.value.failure is Failure.BROKEN
    assert (caught.value.transient, caught.value.ambiguous) == (True, True)
    assert len(server.asked) == 1


def test_no_answer_in_time_leaves_open_whether_the_request_took_effect(
    send: Send, server: HttpServer
) -> None:
    over = threading.Event()

    def answer(_asked: object) -> Answer:
        over.wait(10)
        return Answer()

    server.answer = answer
    try:
        with pytest.raises(TransportError, match=r"no answer within 0\.2 s") as caught:
            send(server.url, "POST", "/x", body={}, timeout=timedelta(seconds=0.2))
    finally:
        over.set()
    assert caught.value.failure is Failure.TIMEOUT
    assert (caught.value.transient, caught.value.ambiguous) == (True, True)


def test_what_cannot_be_sent_says_so_without_quoting_it(send: Send, server: HttpServer) -> None:
    with pytest.raises(TransportError) as caught:
        send(server.url, "POST", "/x", token="s3cret\nX: y", body={})
    assert caught.value.failure is Failure.UNUSABLE
    assert (caught.value.transient, caught.value.ambiguous) == (False, False)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(TransportError, match="cannot be JSON"):
        send(server.url, "POST", "/x", body=float("nan"))
    assert not server.asked
