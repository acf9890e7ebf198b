"""The Jira Cloud stand-in behind its routes: what each request does to its issues."""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.jira_cloud_issues import (
    COMMENT_KEYS,
    COMPONENTS,
    CREATE_KEYS,
    PRIORITIES,
    REMOTE_KEYS,
    RESOLUTIONS,
    SEARCH_KEYS,
    STATUSES,
    Indexed,
    Issue,
    RefusalError,
    check_fields,
    check_keys,
    check_properties,
    check_text,
    parse_jql,
    stamp,
)

PERMISSIONS = frozenset(
    {
        "ADD_COMMENTS", "ASSIGN_ISSUES", "BROWSE_PROJECTS", "CREATE_ATTACHMENTS", "CREATE_ISSUES",
        "EDIT_ISSUES", "LINK_ISSUES", "RESOLVE_ISSUES", "TRANSITION_ISSUES",
    }
)  # fmt: skip
MAX_PAGE = 100


@dataclass
class JiraCloud:
    """A running stand-in, and what a test does to it behind the back of its clients.

    :param lag_s: how long the search needs to see what was written.
    :param now_s: its clock; a test moves it.
    :param granted: the permissions that the user has.
    :param screen: fields of the create screen, those that must be given with True.
    :param page_size: the most issues that a page of a search holds.
    :param limits: values of ``Retry-After`` with which the next requests are refused.
    :param closing_screen: whether closing an issue demands a resolution.
    :param closable: whether the workflow leads to a status of the category done.
    """

    port: int = 0
    lag_s: float = 0
    now_s: float = 0
    granted: set[str] = field(default_factory=lambda: set(PERMISSIONS))
    screen: dict[str, bool] = field(
        default_factory=lambda: {
            "project": True, "issuetype": True, "summary": True, "description": False, "labels": False,
            "priority": False, "components": False, "assignee": False, "customfield_10010": False,
            "reporter": True,
        }
    )  # fmt: skip
    page_size: int = MAX_PAGE
    limits: list[str] = field(default_factory=list)
    closing_screen: bool = False
    closable: bool = True
    issues: dict[int, Issue] = field(default_factory=dict)
    projects: tuple[str, ...] = ("RB", "OPS")
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _index: dict[int, list[Indexed]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _pages: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    _next_id: int = 10_100

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- what people do

    def labelled(self, label: str) -> list[Issue]:
        """Return the issues with a label as they are, oldest first."""
        with self.lock:
            return [one for one in self.issues.values() if label in one.fields.get("labels", ())]

    def move(self, issue: Issue, project: str) -> None:
        """Move an issue; its id stays, and its old key still leads to it."""
        with self.lock:
            issue.former_keys.append(issue.key)
            issue.project, issue.number = project, self._number(project)
            self._touch(issue)

    def delete(self, issue: Issue) -> None:
        with self.lock:
            del self.issues[issue.id]
            self._index.pop(issue.id, None)

    def copy(self, issue: Issue) -> Issue:
        """Clone an issue, as people do: every field comes along, entity properties do not."""
        with self.lock:
            return self._add(issue.project, json.loads(json.dumps(issue.fields)), {})

    def set_status(self, issue: Issue, status: str) -> None:
        with self.lock:
            issue.status = status
            done = issue.category == "done"
            issue.resolved = self.now_s if done else None
            issue.resolution = (issue.resolution or "Done") if done else None
            self._touch(issue)

    # -- what the routes share

    def _add(self, project: str, fields: dict[str, Any], properties: dict[str, Any]) -> Issue:
        self._next_id += 1
        number = self._number(project)
        issue = Issue(self._next_id, project, number, fields, self.now_s, self.now_s, properties=properties)
        issue.fields.setdefault("priority", {"name": "Medium"})
        self.issues[issue.id] = issue
        self._touch(issue)
        return issue

    def _number(self, project: str) -> int:
        self._numbers[project] = self._numbers.get(project, 0) + 1
        return self._numbers[project]

    def _touch(self, issue: Issue) -> None:
        issue.updated = self.now_s
        self._index.setdefault(issue.id, []).append(self._indexed(issue))

    def _indexed(self, issue: Issue) -> Indexed:
        labels = tuple(issue.fields.get("labels", ()))
        return Indexed(self.now_s, issue.project, labels, issue.category)

    def issue_named(self, name: str) -> Issue:
        with self.lock:
            for issue in self.issues.values():
                if name in (str(issue.id), issue.key, *issue.former_keys):
                    return issue
        raise RefusalError(404, "Issue does not exist or you do not have permission to see it.")

    def shown(self, issue: Issue, fields: list[str]) -> dict[str, Any]:
        full = {
            "description": None,
            "labels": [],
            **issue.fields,
            "project": {"key": issue.project},
            "status": shown_status(issue.status),
            "created": stamp(issue.created),
            "updated": stamp(issue.updated),
            "resolution": None if issue.resolution is None else {"name": issue.resolution},
            "resolutiondate": None if issue.resolved is None else stamp(issue.resolved),
            "attachment": [{"filename": name, "size": len(data)} for name, data, _ in issue.attachments],
            "issuelinks": [self._duplicate(issue, other) for other in issue.duplicates],
        }
        chosen = full if "*all" in fields else {name: full.get(name) for name in fields if name in full}
        return {"id": str(issue.id), "key": issue.key, "self": f"{self.url}/{issue.id}", "fields": chosen}

    def _duplicate(self, issue: Issue, other: int) -> dict[str, Any]:
        kind = {"name": "Duplicate", "inward": "is duplicated by", "outward": "duplicates"}
        key = self.issues[other].key if other in self.issues else f"gone-{other}"
        return {"id": f"{issue.id}{other}", "type": kind, "outwardIssue": {"key": key}}

    # -- search

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        check_keys(body, SEARCH_KEYS)
        matches = parse_jql(body.get("jql"))
        reconcile = body.get("reconcileIssues", [])
        if not isinstance(reconcile, list) or not all(isinstance(one, int) for one in reconcile):
            raise RefusalError(400, "reconcileIssues must be an array of issue ids.")
        if len(reconcile) > 50:
            raise RefusalError(400, "reconcileIssues takes at most 50 issue ids.")
        size = body.get("maxResults", 50)
        if not isinstance(size, int) or not 1 <= size <= 5000:
            raise RefusalError(400, "maxResults must be between 1 and 5000.")
        start, token = 0, body.get("nextPageToken")
        if token is not None:
            kept, start = self._pages.get(token, ({}, -1))
            if start < 0 or kept != {key: value for key, value in body.items() if key != "nextPageToken"}:
                raise RefusalError(400, "The nextPageToken is invalid.")
        found = [one for one in self.issues.values() if self._is_found(one, matches, reconcile)]
        size = min(size, self.page_size)
        page, rest = found[start : start + size], found[start + size :]
        answer: dict[str, Any] = {
            # Without `fields` the search gives ids and nothing else.
            "issues": [
                self.shown(one, body["fields"]) if "fields" in body else {"id": str(one.id)} for one in page
            ],
            "isLast": not rest,
        }
        if rest:
            answer["nextPageToken"] = f"token-{len(self._pages)}"
            body_without = {key: value for key, value in body.items() if key != "nextPageToken"}
            self._pages[answer["nextPageToken"]] = (body_without, start + size)
        return answer

    def _is_found(self, issue: Issue, matches: Callable[[Indexed], bool], reconcile: list[int]) -> bool:
        if issue.id in reconcile:
            return matches(self._indexed(issue))
        known = [one for one in self._index[issue.id] if one.at + self.lag_s <= self.now_s]
        return bool(known) and matches(known[-1])

    # -- issues

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        check_keys(body, CREATE_KEYS)
        self._demand("CREATE_ISSUES")
        fields = check_fields(body.get("fields"), set(self.screen))
        project = (fields.get("project") or {}).get("key")
        if project not in self.projects:
            raise RefusalError(400, project="valid project is required")
        for name, required in self.screen.items():
            if required and name not in {*fields, "reporter"}:
                raise RefusalError(400, **{name: f"{name} is required."})
        properties = check_properties(body.get("properties", []))
        kept = {name: value for name, value in fields.items() if name != "project"}
        issue = self._add(project, kept, properties)
        return {"id": str(issue.id), "key": issue.key, "self": f"{self.url}/rest/api/2/issue/{issue.id}"}

    def edit(self, issue: Issue, body: dict[str, Any]) -> None:
        check_keys(body, CREATE_KEYS)
        self._demand("EDIT_ISSUES")
        issue.fields.update(check_fields(body.get("fields", {}), set(self.screen) - {"project"}))
        issue.properties.update(check_properties(body.get("properties", [])))
        self._touch(issue)

    def comment(self, issue: Issue, body: dict[str, Any]) -> dict[str, Any]:
        check_keys(body, COMMENT_KEYS)
        self._demand("ADD_COMMENTS")
        text = check_text(body.get("body"), "comment")
        issue.comments.append({"id": str(len(issue.comments) + 1), "body": text})
        self._touch(issue)
        return issue.comments[-1]

    def remote_link(self, issue: Issue, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        check_keys(body, REMOTE_KEYS)
        self._demand("LINK_ISSUES")
        thing = check_keys(body.get("object"), {"url", "title", "summary", "icon", "status"}, "object ")
        for name in ("url", "title"):
            if not isinstance(thing.get(name), str) or not thing[name]:
                raise RefusalError(400, **{name: f"'{name}' is required."})
        check_keys(body.get("application", {}), {"name", "type"}, "application ")
        if len(body.get("globalId", "")) > 255:
            raise RefusalError(400, globalId="globalId is too long.")
        same = [one for one in issue.remote_links if body.get("globalId") in (one.get("globalId"),)]
        if body.get("globalId") and same:
            issue.remote_links[issue.remote_links.index(same[0])] = body
            return 200, {"id": 10_000 + issue.remote_links.index(body)}
        issue.remote_links.append(body)
        return 201, {"id": 10_000 + len(issue.remote_links) - 1}

    def transitions(self, issue: Issue) -> list[dict[str, Any]]:
        if "TRANSITION_ISSUES" not in self.granted:
            return []
        asks = {
            "resolution": {
                "required": True, "name": "Resolution", "hasDefaultValue": False, "operations": ["set"],
                "allowedValues": [{"name": name} for name in RESOLUTIONS],
            }
        }  # fmt: skip
        return [
            {
                "id": transition,
                "name": f"To {name}",
                "to": shown_status(name),
                "fields": asks if category == "done" and self.closing_screen else {},
            }
            for name, (category, transition) in STATUSES.items()
            if name != issue.status and (category != "done" or self.closable)
        ]

    def transition(self, issue: Issue, body: dict[str, Any]) -> None:
        check_keys(body, CREATE_KEYS)
        chosen = check_keys(body.get("transition"), {"id", "looped"}, "transition ").get("id")
        way = next((one for one in self.transitions(issue) if one["id"] == chosen), None)
        if way is None:
            raise RefusalError(400, f"Transition id '{chosen}' is not valid for this issue.")
        given = check_fields(body.get("fields", {}), set(way["fields"]))
        if set(way["fields"]) - set(given):
            raise RefusalError(400, resolution="Please select a resolution.")
        resolution = (given.get("resolution") or {}).get("name")
        if resolution is not None and resolution not in RESOLUTIONS:
            raise RefusalError(400, resolution="The resolution selected is invalid.")
        issue.resolution = resolution
        self.set_status(issue, way["to"]["name"])

    def link(self, body: dict[str, Any]) -> None:
        check_keys(body, {"type", "inwardIssue", "outwardIssue", "comment"})
        self._demand("LINK_ISSUES")
        if (body.get("type") or {}).get("name") != "Duplicate":
            raise RefusalError(404, "No issue link type with this name found.")
        inward, outward = (
            self.issue_named((body.get(k) or {}).get("key", "")) for k in ("inwardIssue", "outwardIssue")
        )
        if outward.id not in inward.duplicates:
            inward.duplicates.append(outward.id)

    def attach(self, issue: Issue, headers: Any, content: bytes) -> list[dict[str, Any]]:
        self._demand("CREATE_ATTACHMENTS")
        if headers.get("X-Atlassian-Token") != "no-check":
            raise RefusalError(403, "XSRF check failed")
        head = f"Content-Type: {headers.get('Content-Type')}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
        added = []
        for part in parts.iter_parts():
            if part.get_param("name", header="content-disposition") != "file":
                raise RefusalError(400, "The multipart form must have the parameter name 'file'.")
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            issue.attachments.append((part.get_filename() or "", data, part.get_content_type()))
            added.append({"filename": part.get_filename(), "size": len(data)})
        self._touch(issue)
        return added

    def permissions(self, query: dict[str, str]) -> dict[str, Any]:
        asked = [name for name in query.get("permissions", "").split(",") if name]
        if not asked:
            raise RefusalError(400, "The 'permissions' query parameter is required.")
        unknown = set(asked) - PERMISSIONS
        if unknown:
            raise RefusalError(400, f"Unrecognized permission: {sorted(unknown)}")
        return {
            "permissions": {name: {"key": name, "havePermission": name in self.granted} for name in asked}
        }

    def screen_fields(self) -> list[dict[str, Any]]:
        allowed = {
            "priority": [{"name": name} for name in PRIORITIES],
            "components": [{"name": name} for name in COMPONENTS],
        }
        return [
            {
                "fieldId": name, "key": name, "name": name.capitalize(), "required": required,
                "hasDefaultValue": False, "operations": ["set"], "schema": {"type": "string"},
                **({"allowedValues": allowed[name]} if name in allowed else {}),
            }
            for name, required in self.screen.items()
        ]  # fmt: skip

    def _demand(self, permission: str) -> None:
        if permission not in self.granted:
            raise RefusalError(403, f"You do not have the permission {permission}.")


def shown_status(name: str) -> dict[str, Any]:
    return {"name": name, "statusCategory": {"key": STATUSES[name][0]}}
