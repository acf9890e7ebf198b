"""What is written on a ticket, on both kinds of Jira, each thing once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollback_budget.debt.changes import mark_duplicate, waive
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.ticket_operations import LOST_AFTER, REFUSED_FOR
from rollback_budget.sources.recorded import read_series
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.sync.sync import sync_tickets
from tests.support.debts import MINUTE, now_owed, owe, pay, watch
from tests.support.fault_proxy import Answers, Fault, Loses
from tests.support.jira_sites import CloudSite, Seen, Site
from tests.support.rollouts import NOON, race

pytestmark = [pytest.mark.service, pytest.mark.database]

COMMENT, FILES, PRIORITY = "/comment$", "/attachments$", "/issue/[^/]+$"
TRANSITION, LINK = "/transitions$", "/remotelink$"
DAY = timedelta(days=1)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service that no other test has."""
    return request.node.name


def file(ledger: Ledger, site: Site, debt: Debt) -> Seen:
    file_debts(ledger, site.tracker(), NOON, "test")
    (issue,) = site.issues(debt.label)
    return issue


def report(ledger: Ledger, site: Site, at: datetime = NOON) -> list[str]:
    return [one.what for one in sync_tickets(ledger, site.tracker(), at)]


def look(site: Site, debt: Debt) -> Seen:
    (issue,) = site.issues(debt.label)
    return issue


def test_a_filed_ticket_gets_the_run_the_series_and_the_chart_once(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    watch(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    assert len(report(sqlite_ledger, site)) == 3
    assert report(sqlite_ledger, site) == []
    issue = look(site, debt)
    assert issue.comments == ()
    assert len(issue.links) == 1
    assert issue.links[0].startswith("https://airflow.example.com/dags/rollout_model_v42/runs/")
    assert sorted(name.rpartition(".")[2] for name in issue.files) == ["csv", "png"]
    assert issue.priority == "High"


def test_the_attached_series_is_one_that_replay_reads(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str, tmp_path: Path
) -> None:
    debt = owe(sqlite_ledger, service)
    watch(sqlite_ledger, service, looks=45)
    file(sqlite_ledger, cloud, debt)
    report(sqlite_ledger, cloud)
    (issue,) = cloud.jira.labelled(debt.label)
    files = {media: data for _, data, media in issue.attachments}
    series = tmp_path / "series.csv"
    series.write_bytes(files["text/csv"])
    samples = read_series(series)
    assert len(samples) == 90
    assert {(sample.series, sample.version, sample.value, sample.n) for sample in samples} == {
        ("p95", "model-v42", 2.1, 480),
        ("p95", "model-v41", 1.6, 471),
    }
    assert files["image/png"].startswith(b"\x89PNG")


def test_files_wait_for_the_looks_that_led_to_the_breach(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    watch(sqlite_ledger, service, at=NOON - 5 * MINUTE)
    file(sqlite_ledger, cloud, debt)
    report(sqlite_ledger, cloud)
    assert look(cloud, debt).files == ()
    watch(sqlite_ledger, service)
    report(sqlite_ledger, cloud)
    assert len(look(cloud, debt).files) == 2


def test_a_recurrence_is_said_once_and_raises_the_priority(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    report(sqlite_ledger, site)
    owe(sqlite_ledger, service, NOON + MINUTE)
    owe(sqlite_ledger, service, NOON + 2 * MINUTE)
    assert "said that it was breached again" in report(sqlite_ledger, site, NOON + 3 * MINUTE)
    assert report(sqlite_ledger, site, NOON + 4 * MINUTE) == []
    issue = look(site, debt)
    (comment,) = issue.comments
    assert "2 times since the last word here\\: 3 occurrences" in comment
    assert "12\\:01 UTC" in comment
    assert "12\\:02 UTC" in comment
    assert comment.count("\n* 2026") == 2
    assert issue.priority == "Highest"


def test_a_priority_that_a_person_lowered_afterwards_stays(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    owe(sqlite_ledger, service, NOON + MINUTE)
    report(sqlite_ledger, cloud, NOON + MINUTE)
    (issue,) = cloud.jira.labelled(debt.label)
    issue.fields["priority"] = {"name": "Low"}
    report(sqlite_ledger, cloud, NOON + 2 * MINUTE)
    assert look(cloud, debt).priority == "Low"


def test_a_priority_that_a_person_set_higher_is_never_lowered(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    (issue,) = cloud.jira.labelled(debt.label)
    issue.fields["priority"] = {"name": "Highest"}
    report(sqlite_ledger, cloud)
    assert look(cloud, debt).priority == "Highest"


def test_escalations_and_waivers_are_said(sqlite_ledger: Ledger, site: Site, service: str) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    waiver = Waiver("ada", "the fix is being rolled out", NOON + DAY)
    waive(sqlite_ledger.debts, debt.fingerprint, waiver, NOON + MINUTE)
    sqlite_ledger.debt_events.add(
        DebtEvent(debt.fingerprint, 1, DebtEventKind.ESCALATED, NOON + DAY, detail="overdue for 3 days")
    )
    report(sqlite_ledger, site, NOON + DAY)
    assert report(sqlite_ledger, site, NOON + DAY) == []
    issue = look(site, debt)
    # Data Center lists comments of one second in any order.
    escalated, waived = sorted(issue.comments, key=lambda comment: "the fix" in comment)
    assert "the fix is being rolled out" in waived
    assert "overdue for 3 days" in escalated
    assert issue.priority == "Highest"


def test_closing_by_hand_is_answered_once_and_left_closed(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    key = file(sqlite_ledger, site, debt).key
    report(sqlite_ledger, site)
    site.close_by_hand(key)
    assert report(sqlite_ledger, site, NOON + MINUTE) == ["answered that closing it does not pay"]
    assert report(sqlite_ledger, site, NOON + 2 * MINUTE) == []
    issue = look(site, debt)
    (comment,) = issue.comments
    assert "does not pay the debt" in comment
    assert "fails on the breached release and passes on the candidate" in comment
    assert issue.category == "done"
    assert now_owed(sqlite_ledger, debt).is_owed


def test_payment_leaves_the_proof_and_closes_the_ticket(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    report(sqlite_ledger, site)
    pay(sqlite_ledger, debt, NOON + DAY)
    assert [what.partition(" ")[0] for what in report(sqlite_ledger, site, NOON + DAY)] == [
        "attached",
        "left",
        "closed",
    ]
    assert report(sqlite_ledger, site, NOON + DAY) == []
    issue = look(site, debt)
    (comment,) = issue.comments
    assert "accepted" in comment
    assert "model\\-v43" in comment
    assert issue.files[0].startswith("proof-")
    assert issue.category == "done"


def test_a_settled_debt_costs_jira_no_request_of_its_own(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    pay(sqlite_ledger, debt, NOON + DAY)
    report(sqlite_ledger, cloud, NOON + DAY)
    report(sqlite_ledger, cloud, NOON + DAY + MINUTE)
    before = len(cloud.proxy.passed)
    report(sqlite_ledger, cloud, NOON + DAY + 2 * MINUTE)
    asked = [path for _, path in cloud.proxy.passed[before:]]
    assert [path.rpartition("/")[2] for path in asked] == ["serverInfo", "jql"]


def test_a_debt_that_comes_back_opens_its_ticket_again_and_can_be_paid_again(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    pay(sqlite_ledger, debt, NOON + DAY)
    report(sqlite_ledger, site, NOON + DAY)
    owe(sqlite_ledger, service, NOON + 2 * DAY)
    assert "opened it again" in report(sqlite_ledger, site, NOON + 2 * DAY)
    issue = look(site, debt)
    assert issue.category == "new"
    assert any("breached again" in comment for comment in issue.comments)
    assert "does not pay" not in "".join(issue.comments)

    pay(sqlite_ledger, debt, NOON + 3 * DAY)
    report(sqlite_ledger, site, NOON + 3 * DAY)
    assert look(site, debt).category == "done"


def test_a_closing_screen_gets_its_resolution(sqlite_ledger: Ledger, cloud: CloudSite, service: str) -> None:
    cloud.jira.closing_screen = True
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    pay(sqlite_ledger, debt, NOON + DAY)
    report(sqlite_ledger, cloud, NOON + DAY)
    fields = look(cloud, debt).fields
    assert (fields["status"]["name"], fields["resolution"]["name"]) == ("Done", "Done")


def test_a_ticket_that_cannot_be_closed_keeps_its_proof_and_says_so_once_an_hour(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    cloud.jira.closable = False
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    pay(sqlite_ledger, debt, NOON + DAY)
    with pytest.raises(TicketError, match="no transition leads from its status") as refused:
        report(sqlite_ledger, cloud, NOON + DAY)
    assert refused.value.refused
    assert len(look(cloud, debt).comments) == 1
    assert report(sqlite_ledger, cloud, NOON + DAY + MINUTE) == []
    cloud.jira.closable = True
    assert report(sqlite_ledger, cloud, NOON + DAY + REFUSED_FOR + MINUTE) == ["closed it"]


def recurred(ledger: Ledger, debt: Debt) -> None:
    owe(ledger, debt.service, NOON + MINUTE)


def paid(ledger: Ledger, debt: Debt) -> None:
    pay(ledger, debt, NOON + MINUTE)


def watched(ledger: Ledger, debt: Debt) -> None:
    watch(ledger, debt.service)


@pytest.mark.parametrize("losses", [1, 3])
@pytest.mark.parametrize(
    ("happens", "method", "path"),
    [
        pytest.param(recurred, "POST", COMMENT, id="comment"),
        pytest.param(recurred, "PUT", PRIORITY, id="priority"),
        pytest.param(watched, "POST", FILES, id="file"),
        pytest.param(watched, "POST", LINK, id="link"),
        pytest.param(paid, "POST", TRANSITION, id="transition"),
    ],
)
def test_what_was_done_before_its_reply_was_lost_is_not_done_again(
    sqlite_ledger: Ledger,
    site: Site,
    service: str,
    happens: Callable[[Ledger, Debt], None],
    method: str,
    path: str,
    losses: int,
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    happens(sqlite_ledger, debt)
    # The look after the first lost reply may get lost as well.
    site.proxy.faults = [Fault(method, path, Loses.REPLY)]
    at = NOON + 2 * MINUTE
    with pytest.raises(TicketError, match="did not answer") as lost:
        report(sqlite_ledger, site, at)
    assert lost.value.ambiguous
    for _ in range(losses - 1):
        at += LOST_AFTER + MINUTE
        site.proxy.always = Loses.REPLY
        with pytest.raises(TicketError, match="did not answer"):
            report(sqlite_ledger, site, at)
        site.proxy.always = None
    # No task sends again while the lost request may still be at work.
    report(sqlite_ledger, site, at + MINUTE)
    report(sqlite_ledger, site, at + 2 * LOST_AFTER)
    assert report(sqlite_ledger, site, at + 3 * LOST_AFTER) == []
    issue = look(site, debt)
    assert len(issue.comments) == len(set(issue.comments)) <= 1
    assert len(issue.files) == len(set(issue.files))
    assert len(issue.links) == 1 + (happens is recurred)
    if happens is watched:
        assert len(issue.files) == 2
    if happens is recurred:
        assert (len(issue.comments), issue.priority) == (1, "Highest")
    if happens is paid:
        assert (len(issue.comments), issue.category) == (1, "done")


def test_a_request_that_was_lost_before_it_was_done_is_sent_again(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    report(sqlite_ledger, site)
    recurred(sqlite_ledger, debt)
    site.proxy.faults = [Fault("POST", COMMENT, Loses.REQUEST)]
    with pytest.raises(TicketError, match="did not answer"):
        report(sqlite_ledger, site, NOON + 2 * MINUTE)
    report(sqlite_ledger, site, NOON + 3 * MINUTE + LOST_AFTER)
    assert len(look(site, debt).comments) == 1


@pytest.mark.parametrize("retry_after", ["90", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_rate_limit_ends_the_round_and_nothing_is_lost(
    sqlite_ledger: Ledger, site: Site, service: str, retry_after: str
) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    report(sqlite_ledger, site)
    recurred(sqlite_ledger, debt)
    site.proxy.faults = [Fault("POST", COMMENT, Answers(429, (("Retry-After", retry_after),)))]
    before = site.proxy.seen
    with pytest.raises(TicketError) as limited:
        report(sqlite_ledger, site, NOON + 2 * MINUTE)
    assert limited.value.retry_after is not None
    assert limited.value.retry_after >= timedelta(seconds=90)
    assert not limited.value.ambiguous
    assert site.proxy.passed_like("POST", COMMENT) == 0
    assert site.proxy.faults == []
    asked_after = [path for method, path in site.proxy.passed[before:] if method == "PUT"]
    assert asked_after == []
    # Certainly not done, so it can be done at once.
    assert "said that it was breached again" in report(sqlite_ledger, site, NOON + 2 * MINUTE)


def test_16_racing_tasks_say_a_thing_once(ledger: Ledger, cloud: CloudSite, service: str) -> None:
    debt = owe(ledger, service)
    file(ledger, cloud, debt)
    recurred(ledger, debt)
    watch(ledger, service)

    def run(_: int) -> None:
        sync_tickets(Ledger(ledger.url), cloud.tracker(), datetime.now(UTC))

    race(16, run)
    issue = look(cloud, debt)
    assert (len(issue.comments), len(issue.files), len(issue.links)) == (1, 2, 2)
    assert issue.priority == "Highest"


def test_a_missing_right_is_said_and_everything_else_is_done(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    cloud.jira.granted.remove("CREATE_ATTACHMENTS")
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    watch(sqlite_ledger, service)
    recurred(sqlite_ledger, debt)
    with pytest.raises(TicketError, match=r"HTTP 403 .*CREATE_ATTACHMENTS.*check-jira"):
        report(sqlite_ledger, cloud, NOON + 2 * MINUTE)
    issue = look(cloud, debt)
    assert (len(issue.comments), issue.priority) == (1, "Highest")


def test_a_deleted_ticket_is_said_once_and_can_be_filed_anew(
    sqlite_ledger: Ledger, site: Site, service: str
) -> None:
    debt = owe(sqlite_ledger, service)
    key = file(sqlite_ledger, site, debt).key
    report(sqlite_ledger, site)
    assert not sqlite_ledger.tickets.refile(debt.fingerprint)
    site.delete(key)
    (gone,) = report(sqlite_ledger, site, NOON + MINUTE)
    assert "is gone" in gone
    assert report(sqlite_ledger, site, NOON + 2 * MINUTE) == []
    known = now_owed(sqlite_ledger, debt)
    assert known.is_owed
    assert known.ticket is not None
    assert known.ticket.status == "gone"
    # Not by itself: who may not look at a ticket any more gets the same answer, and would file a second one.
    assert file_debts(sqlite_ledger, site.tracker(), NOON + 2 * MINUTE, "test") == []

    assert sqlite_ledger.tickets.refile(debt.fingerprint)
    assert len(file_debts(sqlite_ledger, site.tracker(), NOON + 3 * MINUTE, "test")) == 1
    report(sqlite_ledger, site, NOON + 4 * MINUTE)
    assert len(look(site, debt).links) == 1


def test_a_ticket_that_was_moved_is_followed(sqlite_ledger: Ledger, cloud: CloudSite, service: str) -> None:
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, cloud, debt)
    (issue,) = cloud.jira.labelled(debt.label)
    cloud.jira.move(issue, "OPS")
    recurred(sqlite_ledger, debt)
    reported = report(sqlite_ledger, cloud, NOON + 2 * MINUTE)
    assert "was moved, it was RB-1" in reported
    assert len(look(cloud, debt).comments) == 1
    known = now_owed(sqlite_ledger, debt).ticket
    assert known is not None
    assert (known.key, known.url) == ("OPS-1", f"{cloud.proxy.url}/browse/OPS-1")
    assert file_debts(sqlite_ledger, cloud.tracker(), NOON + 2 * MINUTE, "test") == []


def test_a_duplicate_debt_is_linked_to_the_other_and_closed(
    sqlite_ledger: Ledger, cloud: CloudSite, service: str
) -> None:
    original, debt = owe(sqlite_ledger, service), owe(sqlite_ledger, service, NOON + MINUTE, metric="p50")
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    mark_duplicate(
        sqlite_ledger.debts, debt.fingerprint, original.fingerprint, by="ada", at=NOON + 2 * MINUTE
    )
    report(sqlite_ledger, cloud, NOON + 2 * MINUTE)
    issue, other = look(cloud, debt), look(cloud, original)
    (link,) = issue.fields["issuelinks"]
    assert link["outwardIssue"]["key"] == other.key
    assert (issue.category, other.category) == ("done", "new")


def test_what_is_said_on_a_ticket_is_data(sqlite_ledger: Ledger, site: Site, service: str) -> None:
    hostile = "h1. x\n{noformat}[~admin]!http://x/y.png! \\\\ {{ jinja }} |x|"
    debt = owe(sqlite_ledger, service)
    file(sqlite_ledger, site, debt)
    owe(sqlite_ledger, service, NOON + MINUTE, sentence=hostile)
    report(sqlite_ledger, site, NOON + MINUTE)
    (comment,) = look(site, debt).comments
    assert "{noformat}" not in comment
    assert "[~admin]" not in comment
    assert "\nh1." not in comment
