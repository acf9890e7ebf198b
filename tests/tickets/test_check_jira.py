"""What check-jira finds: each thing that may be missing, one at a time, in words that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollback_budget.cli.main import cli
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.tickets.jira.jira_check import PERMISSIONS, CheckResult, check_jira
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.sync.sync import sync_tickets
from tests.support.debts import owe
from tests.support.fault_proxy import Answers, Fault
from tests.support.jira_cloud import EMAIL, TOKEN
from tests.support.jira_cloud_site import JiraCloud
from tests.support.jira_server import JiraServer
from tests.support.jira_sites import PRIORITIES, CloudSite, server_site
from tests.support.rollouts import NOON

pytestmark = [pytest.mark.service, pytest.mark.database]

FIELDS = TicketFields(
    project="RB",
    issue_type="Bug",
    priority=PRIORITIES,
    components=("assistant",),
    fields={"customfield_10010": {"value": "Production"}},
    assignee={"llm-platform": "5b10ac8d82e05b22cc7d4ef5"},
)


def check(url: str, fields: TicketFields = FIELDS, token: str = TOKEN) -> dict[str, CheckResult]:
    return {one.check: one for one in check_jira(JiraApi(url, user=EMAIL, password=token), fields)}


def test_a_jira_that_is_ready_misses_nothing(cloud: CloudSite, sqlite_ledger: Ledger) -> None:
    owe(sqlite_ledger, "ready")
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    before = [request for request in cloud.jira.requests if request[0] != "GET"]
    found = check(cloud.proxy.url)
    assert {one.check: one.detail for one in found.values() if one.fine is not True} == {}
    assert found["server"].detail.startswith("Jira Cloud 1001.0.0")
    assert found["login"].detail == "as Rollback Bot"
    assert found["transitions"].detail == "RB-1 can be closed by To Done, To Won't Do"
    writes = [request for request in cloud.jira.requests if request[0] != "GET"]
    assert [path.rpartition("/")[2] for _, path in writes[len(before) :]] == ["jql"]


def without(permission: str) -> Callable[[JiraCloud], None]:
    return lambda jira: jira.granted.remove(permission)


@pytest.mark.parametrize("permission", [name for name in PERMISSIONS if name != "BROWSE_PROJECTS"])
def test_each_missing_permission_is_named(cloud: CloudSite, permission: str) -> None:
    cloud.jira.granted.remove(permission)
    missing = [one for one in check(cloud.proxy.url).values() if one.fine is False]
    assert [one.check for one in missing] == [f"permission {permission}"]
    assert f"give the user {permission} in the project" in missing[0].detail


def require(name: str) -> Callable[[JiraCloud], None]:
    return lambda jira: jira.screen.update({name: True})


def drop(name: str) -> Callable[[JiraCloud], None]:
    return lambda jira: jira.screen.pop(name) and None


def never_closes(jira: JiraCloud) -> None:
    jira.closable = False


@pytest.mark.parametrize(
    ("spoil", "missing", "says"),
    [
        (require("customfield_10011"), "required fields", "Customfield_10011 (customfield_10011)"),
        (drop("components"), "create screen", "lacks components"),
        (drop("labels"), "create screen", "lacks labels"),
        (never_closes, "close", "no status of the category done"),
    ],
)
def test_what_the_project_lacks_is_said(
    cloud: CloudSite, spoil: Callable[[JiraCloud], None], missing: str, says: str
) -> None:
    spoil(cloud.jira)
    found = check(cloud.proxy.url)
    assert found[missing].fine is False
    assert says in found[missing].detail


@pytest.mark.parametrize(
    ("changes", "missing", "says"),
    [
        ({"issue_type": "Defect"}, "issue type", "it has Task, Bug, Story"),
        ({"priority": {"major": "P1"}}, "priority", "there is no P1 (there is Highest, High"),
        ({"components": ("nowhere",)}, "components", "there is no nowhere"),
        ({"project": "NOPE"}, "project", "there is no 'NOPE'"),
        ({"project": None}, "project", "none is named"),
    ],
)
def test_what_the_budget_file_gets_wrong_is_said(
    cloud: CloudSite, changes: dict[str, object], missing: str, says: str
) -> None:
    found = check(cloud.proxy.url, FIELDS.model_copy(update=changes))
    assert found[missing].fine is False
    assert says in found[missing].detail


def test_a_transition_that_the_workflow_does_not_have_is_said(
    cloud: CloudSite, sqlite_ledger: Ledger
) -> None:
    owe(sqlite_ledger, "unclosable")
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    found = check(cloud.proxy.url, FIELDS.model_copy(update={"close_with": "Verified"}))
    assert found["transitions"].fine is False
    assert "to 'Verified'" in found["transitions"].detail
    assert check(cloud.proxy.url, FIELDS.model_copy(update={"close_with": "done"}))["transitions"].fine


def test_a_wrong_login_ends_the_check(cloud: CloudSite) -> None:
    found = check(cloud.proxy.url, token="wrong")
    assert list(found) == ["server", "login"]
    assert found["login"].fine is False


def test_a_data_center_of_old_is_asked_as_it_understands(jira_server: JiraServer) -> None:
    with server_site(jira_server) as site:
        # What jira820 lacks and a real one has, as Atlassian documents it.
        granted = {name: {"havePermission": True} for name in PERMISSIONS}
        answer = Answers(200, (), json.dumps({"permissions": granted}).encode())
        site.proxy.faults = [Fault("GET", "mypermissions", answer)]
        fields = TicketFields(project="RB", issue_type="Bug")
        found = {one.check: one for one in check_jira(JiraApi(site.proxy.url, token="pat"), fields)}
    assert found["server"].detail.startswith("Jira Data Center or Server 8.20")
    assert found["permission CREATE_ISSUES"].fine
    assert found["issue type"].fine
    assert found["required fields"].fine
    assert found["close"].fine
    # It does not know this question.
    assert found["attachments"].fine is None


@pytest.fixture
def connection(cloud: CloudSite, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a connection that Airflow finds in the environment."""
    described = {
        "conn_type": "jira",
        "host": cloud.proxy.url,
        "login": EMAIL,
        "password": TOKEN,
        "extra": {"project": "RB", "priority": PRIORITIES},
    }
    monkeypatch.setenv("AIRFLOW_CONN_JIRA_CHECK", json.dumps(described))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return "jira_check"


@pytest.mark.airflow
def test_the_command_prints_a_table_and_exits_1_when_something_is_missing(
    cloud: CloudSite, connection: str, tmp_path: Path
) -> None:
    budget = tmp_path / "model-v42.yaml"
    budget.write_text(
        "release: model-v42\nbaseline: model-v41\nwindow: 24h\n"
        "rollback_budget: {latency: {p95_delta_pct: 15, max_duration_min: 30}}\n"
        "tickets: {issue_type: Bug, components: assistant}\n"
    )
    arguments = ["debt", "check-jira", str(budget), "--conn-id", connection]
    fine = CliRunner().invoke(cli, arguments)
    assert fine.exit_code == 0, fine.output
    assert "ok      issue type" in fine.output
    assert "?       transitions" in fine.output
    cloud.jira.granted.remove("ADD_COMMENTS")
    missing = CliRunner().invoke(cli, arguments)
    assert missing.exit_code == 1
    assert "MISSING permission ADD_COMMENTS" in missing.output
    as_json = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert as_json["fine"] is False
    assert {"check": "issue type", "fine": True, "detail": "Bug"} in as_json["findings"]
    assert TOKEN not in fine.output + missing.output


@pytest.mark.airflow
def test_an_unknown_connection_is_said(connection: str) -> None:
    result = CliRunner().invoke(cli, ["debt", "check-jira", "--conn-id", "nowhere"])
    assert result.exit_code == 1
    assert "AIRFLOW_CONN_NOWHERE" in str(result.exception)


def test_refile_lets_go_only_of_tickets_that_are_gone(cloud: CloudSite, sqlite_ledger: Ledger) -> None:
    debt = owe(sqlite_ledger, "refiled")
    (filed,) = file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    arguments = ["debt", "refile", debt.fingerprint[:12], "--url", sqlite_ledger.url]
    assert "no ticket that is known to be gone" in str(CliRunner().invoke(cli, arguments).exception)
    cloud.delete(filed.key)
    sync_tickets(sqlite_ledger, cloud.tracker(), NOON)
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert len(file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")) == 1
