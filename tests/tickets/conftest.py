"""What the tests of tickets share: a ledger, and both kinds of Jira."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollback_budget.ledger.ledger import Ledger
from tests.support.jira_cloud import running_jira_cloud
from tests.support.jira_cloud_site import JiraCloud
from tests.support.jira_server import JiraServer, running_jira
from tests.support.jira_sites import CloudSite, Site, cloud_site, server_site


@pytest.fixture(scope="module")
def jira_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JiraServer]:
    """A running Jira Data Center."""
    with running_jira(tmp_path_factory.mktemp("jira")) as server:
        yield server


@pytest.fixture
def jira_cloud() -> Iterator[JiraCloud]:
    """The Jira Cloud stand-in."""
    with running_jira_cloud() as jira:
        yield jira


@pytest.fixture
def cloud(jira_cloud: JiraCloud) -> Iterator[CloudSite]:
    """The Jira Cloud stand-in behind a fault proxy."""
    with cloud_site(jira_cloud) as site:
        yield site


@pytest.fixture(params=["cloud", "data_center"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Both kinds of Jira, each behind a fault proxy."""
    if request.param == "cloud":
        yield request.getfixturevalue("cloud")
    else:
        with server_site(request.getfixturevalue("jira_server")) as site:
            yield site


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Ledger:
    """A migrated ledger on SQLite."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return ledger
