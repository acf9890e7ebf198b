from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Debt, DebtState, TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.tickets.jira.connection import tracker_from_jira_connection
from rollback_budget.tickets.jira.tracker import JiraTracker
from rollback_budget.tickets.jira.wiki import escape
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.ticket_context import context_of
from tests.support.fault_proxy import Answers, Fault, FaultProxy, Loses, running_fault_proxy
from tests.support.jira_server import PROJECT, JiraServer
from tests.support.network import wait_until
from tests.support.rollouts import NOON, log_breach, make_breach, race

pytestmark = [pytest.mark.service, pytest.mark.database]

CREATE = "/rest/api/2/issue$"
SEARCH = "/rest/api/2/search"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def proxy(jira_server: JiraServer) -> Iterator[FaultProxy]:
    with running_fault_proxy(jira_server.port) as proxy:
        yield proxy


def owe(ledger: Ledger, service: str, **changes: Any) -> Debt:
    """Let ``service``, whose name is unique to the test, owe a debt."""
    log_breach(ledger, make_breach(**changes), service=service)
    return log_debts(ledger, None, NOON)[0].debt


def tracker(url: str, settle: timedelta = 5 * MINUTE, project: str = PROJECT) -> JiraTracker:
    return JiraTracker(
        JiraApi(url, user="me", password="s3cret"), TicketFields(project=project), settle=settle
    )


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            [
                Fault("POST", CREATE, Loses.REPLY),
                Fault("GET", SEARCH, Loses.REPLY),
                Fault("GET", SEARCH, Loses.REPLY),
            ],
            id="created-and-then-searches-lost",
        ),
        pytest.param(
            [
                Fault("POST", CREATE, Loses.REQUEST),
                Fault("POST", CREATE, Answers(502)),
                Fault("POST", CREATE, Loses.REPLY),
            ],
            id="lost-twice-before-it-was-created",
        ),
    ],
)
def test_16_racing_tasks_and_3_lost_replies_give_one_ticket(
    ledger: Ledger,
    jira_server: JiraServer,
    proxy: FaultProxy,
    faults: list[Fault],
    request: pytest.FixtureRequest,
) -> None:
    debt = owe(ledger, request.node.name)
    proxy.faults = list(faults)

    def run(number: int) -> str | None:
        own_ledger = Ledger(ledger.url)
        own_tracker = tracker(proxy.url, settle=timedelta(seconds=0.3))

        def filed() -> bool:
            try:
                file_debts(own_ledger, own_tracker, datetime.now(UTC), f"task {number}")
            except TicketError:
                return False
            return True

        wait_until(filed, within_s=120, what="the ticket")
        (known,) = own_ledger.debts.every()
        assert known.ticket is not None
        return known.ticket.key

    keys = race(16, run)
    issues = jira_server.issues(debt.label)
    assert [issue["key"] for issue in issues] == [keys[0]]
    assert set(keys) == {keys[0]}
    assert proxy.faults == []
    assert proxy.passed_like("POST", CREATE) == 1


def test_after_a_lost_reply_no_request_is_sent_before_jira_has_settled(
    sqlite_ledger: Ledger, jira_server: JiraServer, proxy: FaultProxy
) -> None:
    debt = owe(sqlite_ledger, "settling")
    proxy.faults = [Fault("POST", CREATE, Loses.REPLY)]
    with pytest.raises(TicketError, match="did not answer the request to create") as lost:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert lost.value.ambiguous
    searches = proxy.passed_like("GET", SEARCH)

    with pytest.raises(TicketError, match="is looked for from 12:05") as waiting:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON + 4 * MINUTE, "test")
    assert waiting.value.retry_after is not None
    assert proxy.passed_like("GET", SEARCH) == searches

    (filed,) = file_debts(sqlite_ledger, tracker(proxy.url), NOON + 6 * MINUTE, "test")
    assert filed.adopted
    assert [issue["key"] for issue in jira_server.issues(debt.label)] == [filed.key]
    assert filed.url == f"{proxy.url}/browse/{filed.key}"


def test_while_jira_is_down_the_debt_stays_and_filing_catches_up(
    sqlite_ledger: Ledger, jira_server: JiraServer, free_port: int
) -> None:
    debts = [owe(sqlite_ledger, "down"), owe(sqlite_ledger, "down", metric="p50", budget="latency.p50")]
    with pytest.raises(TicketError, match=r"(?s)^2 debt.*p95.*did not answer.*p50.*did not answer") as down:
        file_debts(sqlite_ledger, tracker(f"http://127.0.0.1:{free_port}"), NOON, "test")
    assert not down.value.ambiguous
    assert [debt.state for debt in sqlite_ledger.debts.every()] == [DebtState.DETECTED] * 2

    filed = file_debts(sqlite_ledger, tracker(jira_server.url), NOON + MINUTE, "test")
    assert {ticket.debt_fingerprint for ticket in filed} == {debt.fingerprint for debt in debts}
    assert [debt.state for debt in sqlite_ledger.debts.every()] == [DebtState.FILED] * 2
    assert file_debts(sqlite_ledger, tracker(jira_server.url), NOON + MINUTE, "test") == []


def test_a_jira_that_becomes_unavailable_before_the_request_has_made_nothing(
    sqlite_ledger: Ledger, jira_server: JiraServer
) -> None:
    debt = owe(sqlite_ledger, "gone")
    with running_fault_proxy(jira_server.port) as proxy:
        empty = Answers(200, (("Connection", "close"),), b'{"issues": [], "total": 0}')
        proxy.faults = [Fault("GET", SEARCH, empty)]
        gone = tracker(proxy.url)
        assert gone.find(debt) is None
    with pytest.raises(TicketError, match="did not answer the request to create") as refused:
        gone.create(context_of(sqlite_ledger, debt))
    assert not refused.value.ambiguous


def test_one_debts_failure_does_not_stop_the_others(sqlite_ledger: Ledger, proxy: FaultProxy) -> None:
    owe(sqlite_ledger, "both")
    owe(sqlite_ledger, "both", metric="p50", budget="latency.p50")
    proxy.faults = [Fault("POST", CREATE, Answers(503))]
    with pytest.raises(TicketError, match=r"^1 debt") as failed:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert failed.value.ambiguous
    states = {debt.ticket.state for debt in sqlite_ledger.debts.every() if debt.ticket is not None}
    assert states == {TicketState.UNKNOWN, TicketState.FILED}


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "login and password"), (403, "right to browse"), (404, "host")]
)
def test_a_definite_refusal_says_what_to_do_and_can_be_tried_at_once(
    sqlite_ledger: Ledger, proxy: FaultProxy, status: int, remedy: str
) -> None:
    owe(sqlite_ledger, f"refused with {status}")
    proxy.faults = [Fault("POST", CREATE, Answers(status))]
    with pytest.raises(TicketError, match=rf"HTTP {status}.*{remedy}") as refused:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert not refused.value.ambiguous
    assert "s3cret" not in str(refused.value)
    assert len(file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")) == 1


def test_an_unknown_project_is_refused_in_jiras_words(sqlite_ledger: Ledger, jira_server: JiraServer) -> None:
    owe(sqlite_ledger, "lost project")
    wrong = tracker(jira_server.url, project="NOPE")
    with pytest.raises(TicketError, match=r"HTTP 400 .*project.*issue type"):
        file_debts(sqlite_ledger, wrong, NOON, "test")


@pytest.mark.parametrize("content", [b"<html>Log in</html>", b"{}"])
def test_an_answer_that_is_no_answer_may_hide_a_ticket(
    sqlite_ledger: Ledger, jira_server: JiraServer, proxy: FaultProxy, content: bytes
) -> None:
    owe(sqlite_ledger, f"garbled {content!r}")
    proxy.faults = [Fault("POST", CREATE, Answers(200, content=content))]
    with pytest.raises(TicketError, match="unlike a Jira") as garbled:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert garbled.value.ambiguous


@pytest.mark.parametrize("retry_after", ["90", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_rate_limit_is_passed_on_and_ends_the_run(
    sqlite_ledger: Ledger, proxy: FaultProxy, retry_after: str
) -> None:
    owe(sqlite_ledger, f"limited {retry_after}")
    owe(sqlite_ledger, f"limited {retry_after}", metric="p50", budget="latency.p50")
    proxy.faults = [Fault("POST", CREATE, Answers(429, (("Retry-After", retry_after),)))]
    with pytest.raises(TicketError) as limited:
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert not limited.value.ambiguous
    assert limited.value.retry_after is not None
    assert limited.value.retry_after >= timedelta(seconds=90)
    assert proxy.passed_like("POST", CREATE) == 0


def test_issues_that_a_careless_search_returns_are_not_adopted(
    sqlite_ledger: Ledger, jira_server: JiraServer, proxy: FaultProxy
) -> None:
    def found(issues: int) -> Fault:
        foreign = {"id": "1", "key": "RB-1", "fields": {"labels": ["rollback-budget"]}}
        content = json.dumps({"total": issues, "issues": [foreign] * issues}).encode()
        return Fault("GET", SEARCH, Answers(200, content=content))

    debt = owe(sqlite_ledger, "careless")
    proxy.faults = [found(50)]
    with pytest.raises(TicketError, match="did not search by label"):
        file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    proxy.faults = [found(1)]
    (filed,) = file_debts(sqlite_ledger, tracker(proxy.url), NOON, "test")
    assert [issue["key"] for issue in jira_server.issues(debt.label)] == [filed.key]


def test_what_a_ticket_says_is_data(sqlite_ledger: Ledger, jira_server: JiraServer) -> None:
    hostile = 'bot" OR project = X\n{noformat}h1. *x* [~admin] !http://x/y.png! {{ jinja }} \\\\'
    debt = owe(sqlite_ledger, hostile, sentence=hostile)
    (filed,) = file_debts(sqlite_ledger, tracker(jira_server.url), NOON, "test")
    (issue,) = jira_server.issues(debt.label)
    assert issue["key"] == filed.key
    assert debt.label in issue["fields"]["labels"]
    description = issue["fields"]["description"]
    assert "{noformat}" not in description
    assert "[~admin]" not in description
    assert "\n" not in issue["fields"]["summary"]
    assert escape("{a}\\[b]") == "\\{a\\}&#92;\\[b\\]"


def test_a_jira_connection_is_read_as_the_atlassian_provider_defines_it(
    sqlite_ledger: Ledger, jira_server: JiraServer
) -> None:
    extra = {"verify": "false", "project": PROJECT, "issue_type": "Bug", "settle_s": 30}
    connected = tracker_from_jira_connection(jira_server.url, "me", "s3cret", extra)
    assert connected.settle == timedelta(seconds=30)
    debt = owe(sqlite_ledger, "connected")
    file_debts(sqlite_ledger, connected, NOON, "test")
    assert jira_server.issues(debt.label)[0]["fields"]["issuetype"]["name"] == "Bug"


@pytest.mark.parametrize(
    ("host", "extra", "complaint"),
    [
        ("jira.example.com", {"project": "RB"}, "with scheme"),
        ("https://me:s3cret@jira.example.com", {"project": "RB"}, "without a user"),
        (None, {"project": "RB"}, "with scheme"),
        ("https://jira.example.com", {"project": "not a key"}, "no project key"),
        ("https://jira.example.com", {"priority": {"grave": "High"}}, "no severity"),
        ("https://jira.example.com", {"project": "RB", "settle_s": "soon"}, "settle_s"),
    ],
)
def test_an_incomplete_connection_says_what_is_missing(
    host: str | None, extra: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TicketError, match=complaint):
        tracker_from_jira_connection(host, None, None, extra)
