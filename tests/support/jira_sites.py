"""The two kinds of Jira that tickets are tested on, seen alike: Data Center and the Cloud stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import requests

from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.tickets.jira.tracker import JiraTracker
from tests.support.fault_proxy import FaultProxy, running_fault_proxy
from tests.support.jira_cloud import EMAIL, TOKEN
from tests.support.jira_cloud_site import JiraCloud
from tests.support.jira_server import PROJECT, JiraServer

PRIORITIES = {"critical": "Highest", "major": "High", "minor": "Medium"}


@dataclass(frozen=True)
class Seen:
    """An issue as it is in Jira, past every proxy."""

    key: str
    fields: dict[str, Any]
    comments: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[str, ...]

    @property
    def category(self) -> str:
        category: str = self.fields["status"]["statusCategory"]["key"]
        return category

    @property
    def priority(self) -> str:
        name: str = self.fields["priority"]["name"]
        return name


class Site(Protocol):
    """A Jira with a fault proxy in front of it."""

    proxy: FaultProxy

    def tracker(self, settle: timedelta = timedelta(minutes=5), **fields: Any) -> JiraTracker: ...

    def issues(self, label: str) -> list[Seen]: ...

    def close_by_hand(self, key: str) -> None: ...

    def delete(self, key: str) -> None: ...

    def copy(self, key: str) -> str: ...


def run_link(key: RolloutKey) -> str:
    return f"https://airflow.example.com/dags/{key.dag_id}/runs/{key.run_id}"


def make_tracker(api: JiraApi, settle: timedelta, fields: dict[str, Any]) -> JiraTracker:
    defaults = TicketFields(**{"project": PROJECT, "priority": PRIORITIES, **fields})
    return JiraTracker(api, defaults, settle=settle, run_link=run_link)


@dataclass
class CloudSite:
    """The stand-in behind a proxy."""

    jira: JiraCloud
    proxy: FaultProxy

    def tracker(self, settle: timedelta = timedelta(minutes=5), **fields: Any) -> JiraTracker:
        return make_tracker(JiraApi(self.proxy.url, user=EMAIL, password=TOKEN), settle, fields)

    def issues(self, label: str) -> list[Seen]:
        return [
            Seen(
                one.key,
                self.jira.shown(one, ["*all"])["fields"],
                tuple(comment["body"] for comment in one.comments),
                tuple(name for name, _, _ in one.attachments),
                tuple(link["object"]["url"] for link in one.remote_links),
            )
            for one in self.jira.labelled(label)
        ]

    def close_by_hand(self, key: str) -> None:
        self.jira.set_status(self.jira.issue_named(key), "Done")

    def delete(self, key: str) -> None:
        self.jira.delete(self.jira.issue_named(key))

    def copy(self, key: str) -> str:
        return self.jira.copy(self.jira.issue_named(key)).key


@dataclass
class ServerSite:
    """``jira820`` behind a proxy. It keeps no entity properties, so its issues are known by their text."""

    server: JiraServer
    proxy: FaultProxy

    def tracker(self, settle: timedelta = timedelta(minutes=5), **fields: Any) -> JiraTracker:
        return make_tracker(JiraApi(self.proxy.url, token="pat"), settle, fields)

    def issues(self, label: str) -> list[Seen]:
        seen = []
        for issue in self.server.issues(label):
            path = f"{self.server.url}/rest/api/2/issue/{issue['key']}"
            comments = requests.get(f"{path}/comment", timeout=30).json()["comments"]
            links = requests.get(f"{path}/remotelink", timeout=30).json()
            fields = issue["fields"]
            seen.append(
                Seen(
                    issue["key"],
                    fields,
                    tuple(one["body"] for one in comments),
                    tuple(one["filename"] for one in fields["attachment"]),
                    tuple(one["object"]["url"] for one in links),
                )
            )
        return seen

    def close_by_hand(self, key: str) -> None:
        path = f"{self.server.url}/rest/api/2/issue/{key}/transitions"
        ways = requests.get(path, timeout=30).json()["transitions"]
        way = next(one for one in ways if one["to"]["statusCategory"]["key"] == "done")
        assert requests.post(path, json={"transition": {"id": way["id"]}}, timeout=30).ok

    def delete(self, key: str) -> None:
        assert requests.delete(f"{self.server.url}/rest/api/2/issue/{key}", timeout=30).ok

    def copy(self, key: str) -> str:
        path = f"{self.server.url}/rest/api/2/issue"
        fields = requests.get(f"{path}/{key}", timeout=30).json()["fields"]
        copied = {name: fields[name] for name in ("summary", "description", "labels")}
        copied |= {"project": {"key": PROJECT}, "issuetype": {"name": "Task"}}
        made: str = requests.post(path, json={"fields": copied}, timeout=30).json()["key"]
        return made


@contextmanager
def cloud_site(jira: JiraCloud) -> Iterator[CloudSite]:
    """Put a proxy before the stand-in."""
    with running_fault_proxy(jira.port) as proxy:
        yield CloudSite(jira, proxy)


@contextmanager
def server_site(server: JiraServer) -> Iterator[ServerSite]:
    """Put a proxy before a running Data Center."""
    with running_fault_proxy(server.port) as proxy:
        yield ServerSite(server, proxy)
