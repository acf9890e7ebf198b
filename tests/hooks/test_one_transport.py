"""Every HTTP client obeys one policy: a source, a target, Jira, and a webhook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollback_budget.exceptions import RollbackBudgetError, SourceError, TicketError
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.hooks.traffic_target import open_target
from rollback_budget.model.json_api import HttpJsonSource
from rollback_budget.model.target import HttpRead, HttpTarget
from rollback_budget.notifications.webhook import TeamsNotifier, WebhookNotifier
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.transport.policy import POLICY
from tests.engine.builders import BASELINE, RELEASE, rollout
from tests.support.http_server import Answer, HttpServer, running_http_server

pytestmark = [pytest.mark.airflow, pytest.mark.service]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRET = "s3cret"
SOURCE = HttpJsonSource.model_validate(
    {
        "type": "http_json",
        "conn_id": "server",
        "requests": [
            {
                "path": "/series/$version",
                "points": "points",
                "time": "at",
                "series": {"p95": {"value": "v"}},
            }
        ],
    }
)


def use_source(_url: str) -> None:
    async def run() -> None:
        try:
            source = await open_source(rollout(source=SOURCE))
            await source.fetch(SeriesRequest(("p95",), RELEASE, BASELINE, NOON, NOON + MINUTE, MINUTE))
        finally:
            await close_shared_session()

    asyncio.run(run())


def use_target(_url: str) -> None:
    config = HttpTarget(conn_id="server", read=HttpRead(path="/routes", weights="weights"))
    open_target(rollout(target=config)).read()


def use_jira(url: str) -> None:
    JiraApi(url, token=SECRET).get("/rest/api/2/myself", "say who logs in")


def attach(url: str) -> None:
    JiraApi(url, token=SECRET).upload("/rest/api/2/issue/X-1/attachments", "attach", "a", b"x", "text/csv")


def use_webhook(_url: str) -> None:
    WebhookNotifier(http_conn_id="server", text="hello").notify({})


def use_teams(_url: str) -> None:
    TeamsNotifier(http_conn_id="server", text="hello").notify({})


USERS = [use_source, use_target, use_jira, attach, use_webhook, use_teams]
Use = Callable[[str], None]


@pytest.fixture(params=USERS, ids=lambda use: use.__name__)
def use(request: pytest.FixtureRequest) -> Use:
    found: Use = request.param
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    with running_http_server() as running:
        connection = {"conn_type": "http", "host": running.url, "extra": {"X-Api-Key": SECRET}}
        monkeypatch.setenv("AIRFLOW_CONN_SERVER", json.dumps(connection))
        monkeypatch.setenv("NO_PROXY", "*")
        yield running


@pytest.mark.parametrize("status", [302, 307])
def test_credentials_never_follow_a_redirect_to_another_host(
    use: Use, server: HttpServer, status: int
) -> None:
    with running_http_server() as other:
        there = Answer(status, b"", {"Location": f"{other.url}/new?token={SECRET}"})
        server.answer = lambda _asked: there
        with pytest.raises(RollbackBudgetError, match=r"redirect") as caught:
            use(server.url)
        assert not other.asked
        assert server.asked
        assert SECRET not in str(caught.value)


def test_one_limit_rules_the_size_of_every_answer(use: Use, server: HttpServer) -> None:
    server.answer = lambda _asked: Answer(200, json.dumps({"padding": 2000 * "x"}).encode())
    before = POLICY.largest_body
    object.__setattr__(POLICY, "largest_body", 1000)
    try:
        with pytest.raises(RollbackBudgetError, match="an answer of more than 1000 bytes"):
            use(server.url)
    finally:
        object.__setattr__(POLICY, "largest_body", before)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("90", timedelta(seconds=90)),
        ("999999999", timedelta(days=1)),
        ("Wed, 21 Oct 2099 07:28:00 GMT", timedelta(days=1)),
    ],
)
@pytest.mark.parametrize("use", [use_source, use_jira, attach])
def test_retry_after_means_the_same_to_a_source_and_to_jira(
    server: HttpServer, use: Use, value: str, wait: timedelta
) -> None:
    server.answer = lambda _asked: Answer(429, b"", {"Retry-After": value})
    with pytest.raises(RollbackBudgetError, match="429") as caught:
        use(server.url)
    assert isinstance(caught.value, SourceError | TicketError)
    assert caught.value.retry_after == wait


@pytest.mark.parametrize(("use", "wait"), [(use_source, None), (use_jira, MINUTE)])
def test_a_retry_after_that_cannot_be_read_is_none_and_a_minute_to_jira(
    server: HttpServer, use: Use, wait: timedelta | None
) -> None:
    server.answer = lambda _asked: Answer(429, b"", {"Retry-After": "soon"})
    with pytest.raises((SourceError, TicketError)) as caught:
        use(server.url)
    assert caught.value.retry_after == wait


@pytest.mark.parametrize("answer", [None, Answer(503), Answer(429), Answer(302, b"", {"Location": "/x"})])
@pytest.mark.parametrize("use", [use_jira, attach, use_webhook])
def test_jira_and_webhooks_are_asked_once_a_call(server: HttpServer, use: Use, answer: Any) -> None:
    server.answer = lambda _asked: answer
    with pytest.raises(RollbackBudgetError):
        use(server.url)
    assert len(server.asked) == 1


def test_a_webhook_whose_address_is_the_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_http_server() as server:
        host = f"{server.url}/hooks/{SECRET}"
        monkeypatch.setenv("AIRFLOW_CONN_SERVER", json.dumps({"conn_type": "http", "host": host}))
        monkeypatch.setenv("NO_PROXY", "*")
        use_webhook("")
        assert server.asked[0].path == f"/hooks/{SECRET}"
        server.answer = lambda asked: Answer(301, b"", {"Location": asked.path})
        with pytest.raises(RollbackBudgetError, match="connection server") as caught:
            use_webhook("")
        assert SECRET not in str(caught.value)
    with pytest.raises(RollbackBudgetError, match="connection server") as caught:
        use_webhook("")
    assert SECRET not in str(caught.value)
