"""One ticket per debt, whatever is lost on the way, on both kinds of Jira; the searches of Cloud lag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Claim, Debt
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.tickets.base import TicketRef
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.tickets.jira.issue_identity import PROPERTY
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.sync.sync import sync_tickets
from rollback_budget.tickets.ticket_context import context_of
from tests.support.debts import MINUTE, now_owed, owe, watch
from tests.support.fault_proxy import Answers, Fault, Loses
from tests.support.jira_cloud import EMAIL, TOKEN
from tests.support.jira_sites import CloudSite, Site, make_tracker
from tests.support.network import wait_until
from tests.support.rollouts import NOON, make_spec, race

pytestmark = [pytest.mark.service, pytest.mark.database]

CREATE = "/rest/api/2/issue$"
SEARCH = "/rest/api/2/search"
SOON = timedelta(seconds=0.3)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service that no other test has."""
    return request.node.name


def keys(site: Site, debt: Debt) -> list[str]:
    return [issue.key for issue in site.issues(debt.label)]


@pytest.mark.parametrize("losses", [1, 3])
def test_16_racing_tasks_and_lost_replies_make_one_ticket(
    ledger: Ledger, site: Site, service: str, losses: int
) -> None:
    debt = owe(ledger, service)
    # The reply that counts, and then those of the requests that look for it.
    looks = "POST" if isinstance(site, CloudSite) else "GET"
    later = [Fault(looks, SEARCH, Loses.REPLY)] * (losses - 1)
    site.proxy.faults = [Fault("POST", CREATE, Loses.REPLY), *later]

    def run(number: int) -> str | None:
        own = Ledger(ledger.url)

        def filed() -> bool:
            try:
                file_debts(own, site.tracker(settle=SOON), datetime.now(UTC), f"task {number}")
            except TicketError:
                return False
            return True

        wait_until(filed, within_s=120, what="the ticket")
        ticket = now_owed(own, debt).ticket
        assert ticket is not None
        return ticket.key

    held = set(race(16, run))
    assert [*held] == keys(site, debt)
    assert site.proxy.faults == []
    assert site.proxy.passed_like("POST", CREATE) == 1


def test_a_search_that_lags_for_a_minute_does_not_make_a_second_ticket(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    cloud.jira.lag_s = 60
    debt = owe(sqlite_ledger, service)
    tracker = cloud.tracker(settle=2 * MINUTE)
    cloud.proxy.faults = [Fault("POST", CREATE, Loses.REPLY)]
    with pytest.raises(TicketError, match="did not answer the request to create"):
        file_debts(sqlite_ledger, tracker, NOON, "test")
    cloud.jira.now_s = 59
    # The index does not show it yet, and no search is sent before it can be trusted.
    assert tracker.find(debt) is None
    with pytest.raises(TicketError, match="is looked for from"):
        file_debts(sqlite_ledger, tracker, NOON + MINUTE, "test")
    cloud.jira.now_s = 121
    (filed,) = file_debts(sqlite_ledger, tracker, NOON + 3 * MINUTE, "test")
    assert filed.adopted
    assert keys(cloud, debt) == [filed.key]


def test_the_ticket_that_the_ledger_knows_is_read_after_it_was_written(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    cloud.jira.lag_s = 60
    debt = owe(sqlite_ledger, service)
    tracker = cloud.tracker()
    file_debts(sqlite_ledger, tracker, NOON, "test")
    ticket = now_owed(sqlite_ledger, debt).ticket
    assert ticket is not None
    assert ticket.issue_id is not None
    assert tracker.open_tickets(()) == {}
    assert list(tracker.open_tickets([ticket.issue_id])) == [ticket.issue_id]


def test_long_searches_are_read_to_their_end(sqlite_ledger: Ledger, cloud: CloudSite, service: str) -> None:
    cloud.jira.page_size = 2
    for number in range(5):
        owe(sqlite_ledger, f"{service} {number}")
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    assert len(cloud.tracker().open_tickets(())) == 5


def test_a_crashed_lease_holders_ticket_is_adopted(sqlite_ledger: Ledger, site: Site, service: str) -> None:
    debt = owe(sqlite_ledger, service)
    tracker = site.tracker()
    claim = sqlite_ledger.tickets.claim(
        debt.fingerprint, "dead", NOON, lease=5 * MINUTE, settle=tracker.settle
    )
    assert isinstance(claim, Claim)
    made = tracker.create(context_of(sqlite_ledger, debt))
    with pytest.raises(TicketError, match="another task is filing it"):
        file_debts(sqlite_ledger, tracker, NOON + MINUTE, "alive")
    # Its lease is over, but it may have sent its request in the last moment.
    with pytest.raises(TicketError, match="is looked for from"):
        file_debts(sqlite_ledger, tracker, NOON + 6 * MINUTE, "alive")
    (filed,) = file_debts(sqlite_ledger, tracker, NOON + 11 * MINUTE, "alive")
    assert (filed.key, filed.adopted) == (made.key, True)
    ticket = now_owed(sqlite_ledger, debt).ticket
    assert ticket is not None
    assert (ticket.issue_id, ticket.reported_occurrences) == (made.issue_id, 1)


def test_a_ticket_that_was_adopted_hears_only_of_what_it_does_not_say(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    debt = owe(sqlite_ledger, service, NOON + MINUTE)
    site.proxy.faults = [Fault("POST", CREATE, Loses.REPLY)]
    with pytest.raises(TicketError):
        file_debts(sqlite_ledger, site.tracker(), NOON, "test")
    owe(sqlite_ledger, service, NOON + 2 * MINUTE)
    file_debts(sqlite_ledger, site.tracker(), NOON + 6 * MINUTE, "test")
    sync_tickets(sqlite_ledger, site.tracker(), NOON + 6 * MINUTE)
    (issue,) = site.issues(debt.label)
    (comment,) = issue.comments
    assert "once since the last word here" in comment


def test_an_issue_with_a_copied_label_is_not_taken_for_the_ticket(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    other = owe(sqlite_ledger, service, NOON + MINUTE, metric="p50")
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    (ours,) = cloud.jira.labelled(debt.label)
    # A clone has the description and every label, and lacks the property.
    clone = cloud.jira.copy(ours)
    (another,) = cloud.jira.labelled(other.label)
    another.fields["labels"].append(debt.label)
    tracker = cloud.tracker()
    found = tracker.find(debt)
    assert found is not None
    assert found.ref.key == ours.key
    assert tracker.duplicates(debt, found.ref) == []
    cloud.jira.delete(ours)
    assert tracker.find(debt) is None
    assert clone.key in keys(cloud, debt)


def test_where_properties_are_not_kept_the_text_of_the_issue_says_whose_it_is(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    if isinstance(site, CloudSite):
        # As a proxy in front of Jira that knows only some of its paths.
        for_ever = Answers(404)
        site.proxy.always = None
        site.proxy.faults = [Fault("GET", "/properties", for_ever)] * 2
    debt = owe(sqlite_ledger, service)
    made = site.tracker().create(context_of(sqlite_ledger, debt))
    found = site.tracker().find(debt)
    assert found is not None
    assert found.ref == made


def test_a_label_on_a_foreign_issue_is_not_taken_for_the_ticket(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    foreign = cloud.jira._add("OPS", {"summary": "mine", "labels": [debt.label]}, {})
    forged = {PROPERTY: {"fingerprint": "f" * 64, "cycle": 1, "occurrences": 1}}
    cloud.jira._add("OPS", {"summary": "mine", "labels": [debt.label]}, forged)
    (filed,) = file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    assert not filed.adopted
    assert len(keys(cloud, debt)) == 3
    assert foreign.comments == []


def test_a_ticket_that_slipped_through_is_found_and_linked_once(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file_debts(sqlite_ledger, site.tracker(), NOON, "test")
    (first,) = keys(site, debt)
    # A task that was held up for longer than its lease sends its request all the same.
    site.tracker().create(context_of(sqlite_ledger, debt))
    reported = [one.what for one in sync_tickets(sqlite_ledger, site.tracker(), NOON + MINUTE)]
    second = next(key for key in keys(site, debt) if key != first)
    assert f"{second} slipped through and was linked as a duplicate of {first}" in reported
    again = sync_tickets(sqlite_ledger, site.tracker(), NOON + 2 * MINUTE)
    assert again == []
    issue = next(one for one in site.issues(debt.label) if one.key == second)
    (link,) = issue.fields["issuelinks"]
    assert (link["type"]["name"], link["outwardIssue"]["key"]) == ("Duplicate", first)


def test_the_oldest_of_several_tickets_is_the_one(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    context, tracker = context_of(sqlite_ledger, debt), cloud.tracker()
    made = []
    for second in range(3):
        cloud.jira.now_s = second
        made.append(tracker.create(context))
    found = tracker.find(debt)
    assert found is not None
    assert found.ref == made[0]
    assert tracker.duplicates(debt, made[0]) == made[1:]


def test_a_moved_ticket_is_found_in_its_new_project(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    cloud.proxy.faults = [Fault("POST", CREATE, Loses.REPLY)]
    with pytest.raises(TicketError):
        file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    (issue,) = cloud.jira.labelled(debt.label)
    cloud.jira.move(issue, "OPS")
    (filed,) = file_debts(sqlite_ledger, cloud.tracker(), NOON + 6 * MINUTE, "test")
    assert (filed.key, filed.adopted) == ("OPS-1", True)


@pytest.mark.parametrize("retry_after", ["90", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_rate_limit_is_passed_on_in_full(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str, retry_after: str
) -> None:
    owe(sqlite_ledger, service)
    cloud.jira.limits = [retry_after]
    with pytest.raises(TicketError, match="HTTP 429 Rate limit exceeded") as limited:
        file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    assert limited.value.retry_after is not None
    assert limited.value.retry_after >= timedelta(seconds=90)
    assert len(file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")) == 1


def test_a_503_may_hide_a_ticket_and_says_how_long_to_wait(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    owe(sqlite_ledger, service)
    site.proxy.faults = [Fault("POST", CREATE, Answers(503, (("Retry-After", "120"),)))]
    with pytest.raises(TicketError, match="HTTP 503") as down:
        file_debts(sqlite_ledger, site.tracker(), NOON, "test")
    assert down.value.ambiguous
    assert down.value.retry_after == timedelta(seconds=120)


@pytest.mark.parametrize("answer", [301, 302, 307])
def test_a_redirect_files_nothing_and_names_the_address(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str, answer: int
) -> None:
    debt = owe(sqlite_ledger, service)
    moved = Answers(answer, (("Location", "https://new.example.com/rest/api/2/issue?token=secret"),))
    cloud.proxy.faults = [Fault("POST", CREATE, moved)]
    with pytest.raises(TicketError, match=r"https://new\.example\.com/rest/api/2/issue'") as refused:
        file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    assert not refused.value.ambiguous
    assert "secret" not in str(refused.value)
    assert keys(cloud, debt) == []


def test_cloud_is_never_asked_by_the_search_that_it_has_removed(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    owe(sqlite_ledger, service)
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    assert cloud.proxy.passed_like("GET", "/search$") == 0
    assert cloud.proxy.passed_like("POST", "/search/jql$") == 1


def test_a_personal_access_token_is_refused_by_cloud_in_words(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    owe(sqlite_ledger, service)
    tracker = make_tracker(JiraApi(cloud.proxy.url, user=EMAIL, token=TOKEN), MINUTE, {})
    with pytest.raises(TicketError, match=r"HTTP 401 .*login and password"):
        file_debts(sqlite_ledger, tracker, NOON, "test")


def test_a_token_that_cannot_be_sent_is_not_printed() -> None:
    tracker = make_tracker(JiraApi("http://127.0.0.1:9", token="s3cret\nX: y"), MINUTE, {})
    with pytest.raises(TicketError, match="cannot be asked") as refused:
        tracker.see(TicketRef("RB-1"))
    assert "s3cret" not in str(refused.value)


def test_the_fields_of_the_budget_file_come_before_those_of_the_connection(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    fields = {
        "issue_type": "Bug",
        "priority": {"major": "Lowest"},
        "components": ("assistant",),
        "labels": ("llm",),
        "fields": {"customfield_10010": {"value": "Production"}},
        "assignee": {"llm-platform": "5b10ac8d82e05b22cc7d4ef5"},
    }
    spec = make_spec(owner="llm-platform", tickets={"labels": ("mine",), "project": "OPS"})
    debt = owe(sqlite_ledger, service, owner=spec.owner, tickets=spec.tickets)
    file_debts(sqlite_ledger, cloud.tracker(**fields), NOON, "test")
    (issue,) = cloud.jira.labelled(debt.label)
    assert issue.key == "OPS-1"
    assert issue.fields["issuetype"] == {"name": "Bug"}
    assert issue.fields["priority"] == {"name": "Lowest"}
    assert issue.fields["components"] == [{"name": "assistant"}]
    assert issue.fields["assignee"] == {"id": "5b10ac8d82e05b22cc7d4ef5"}
    assert issue.fields["customfield_10010"] == {"value": "Production"}
    assert issue.fields["labels"] == ["rollback-budget", debt.label, "mine"]
    assert issue.properties[PROPERTY]["fingerprint"] == debt.fingerprint


def test_a_project_that_is_not_named_is_said(sqlite_ledger: Ledger, cloud: CloudSite, service: str) -> None:
    owe(sqlite_ledger, service)
    with pytest.raises(TicketError, match=r'no project is named: .*"project".*tickets: {project'):
        file_debts(sqlite_ledger, cloud.tracker(project=None), NOON, "test")


def test_a_ticket_shows_the_breach_the_budgets_the_decisions_and_where_to_look(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    watch(sqlite_ledger, service)
    (logged,) = sqlite_ledger.breaches.of_debt(debt.fingerprint)
    sqlite_ledger.decisions.add(logged.key, 1, "Roll back", "ada", "users notice", NOON, timed_out=False)
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    (issue,) = cloud.jira.labelled(debt.label)
    text = issue.fields["description"]
    assert text.startswith("latency\\: p95 was 31 % above model\\-v41")
    assert "ada decided\\: Roll back \\(users notice\\)" in text
    assert "https://airflow.example.com/dags/rollout_model_v42/runs/" in text
    assert "red-green proof" in text
