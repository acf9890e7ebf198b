"""Which ticket tracker the deployment's configuration means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollback_budget.exceptions import TicketError
from rollback_budget.operators.ticket import open_tracker
from rollback_budget.tickets.jira.tracker import JiraTracker
from rollback_budget.tickets.markdown import MarkdownBacklog

pytestmark = pytest.mark.airflow

PREFIX = "AIRFLOW__ROLLBACK_BUDGET__"
CONNECTION = '{"conn_type": "jira", "host": "https://jira.example.com", "extra": {"project": "RB"}}'


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}BACKLOG_FOLDER", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_DEBT", CONNECTION)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, MarkdownBacklog),
        ({"JIRA_CONN_ID": "debt"}, JiraTracker),
        ({"TRACKER": "jira", "TRACKER_CONN_ID": "debt"}, JiraTracker),
        ({"TRACKER": "local", "JIRA_CONN_ID": "debt"}, MarkdownBacklog),
    ],
)
def test_a_tracker_is_named_or_follows_from_the_jira_connection(
    options: dict[str, str], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in options.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    assert type(open_tracker()) is kind


def test_a_tracker_that_is_not_registered_is_an_error_that_says_the_known_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{PREFIX}TRACKER", "linear")
    with pytest.raises(TicketError, match=r"nothing is registered as 'linear'.*known: local, jira"):
        open_tracker()


def test_jira_without_a_connection_says_which_option_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}TRACKER", "jira")
    with pytest.raises(TicketError, match="tracker_conn_id"):
        open_tracker()
