"""Jira tickets: each created by one request, found by label, believed by property, and left to people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.model.budget import Severity
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.base import (
    Comment,
    FoundTicket,
    RunLink,
    TicketRef,
    TicketSnapshot,
    TicketStatus,
    no_link,
)
from rollback_budget.tickets.description import describe
from rollback_budget.tickets.jira.api import PAGE, JiraApi, quoted
from rollback_budget.tickets.jira.issue_identity import PROPERTY, IssueIdentity
from rollback_budget.tickets.jira.transitions import Transition, transitions_in
from rollback_budget.tickets.jira.wiki import description_text, note_text
from rollback_budget.tickets.ticket_context import TicketContext

#: Every ticket of ours carries this label, beside the one that names its debt.
LABEL = "rollback-budget"
#: Longer than Jira Cloud's search lags behind, as a rule.
SETTLE = timedelta(minutes=5)
ISSUE_TYPE = "Task"

_SUMMARY_LENGTH = 255
_SEEN = ("status", "priority", "resolutiondate")
_DUPLICATE = "Duplicate"


class JiraTracker:
    """Files debts as issues, and keeps people informed there.

    :param defaults: what the budget file leaves open.
    :param settle: how long Jira's search may lag behind what was created.
    :param run_link: where a rollout's DAG run is seen.
    """

    name = "jira"

    def __init__(
        self,
        api: JiraApi,
        defaults: TicketFields,
        *,
        settle: timedelta = SETTLE,
        run_link: RunLink = no_link,
    ) -> None:
        self.settle = settle
        self.link_of = run_link
        self._api = api
        self._defaults = defaults

    # -- the one ticket of a debt

    def find(self, debt: Debt) -> FoundTicket | None:
        """Return the oldest issue with the debt's label and its identity, in whatever project."""
        return next(iter(self._verified(debt, ())), None)

    def create(self, context: TicketContext) -> TicketRef:
        """Create the issue with its property, by a single POST."""
        body = {
            "fields": self.fields_of(context),
            "properties": [IssueIdentity.of(context.debt).as_property],
        }
        made = self._api.post("/rest/api/2/issue", "create a ticket", body)
        with self._api.reading("create a ticket", writes=True):
            return self._ref(made)

    def fields_of(self, context: TicketContext) -> dict[str, Any]:
        """Return the fields of a debt's issue. Raises TicketError when no project is named."""
        fields = context.fields.over(self._defaults)
        debt = context.debt
        if not fields.project:
            raise TicketError(
                'no project is named: add {"project": "KEY"} to the jira connection\'s extra, or'
                " `tickets: {project: KEY}` to the budget file"
            )
        description = describe(context, self.link_of)
        made: dict[str, Any] = {
            **fields.fields,
            "project": {"key": fields.project},
            "issuetype": {"name": fields.issue_type or ISSUE_TYPE},
            "summary": " ".join(description.title.split())[:_SUMMARY_LENGTH],
            "description": description_text(description, IssueIdentity.of(debt).line),
            "labels": [LABEL, debt.label, *fields.labels],
        }
        priority = priority_of(context, fields)
        if priority is not None:
            made["priority"] = {"name": priority}
        if fields.components:
            made["components"] = [{"name": name} for name in fields.components]
        assignee = fields.assignee.get(context.owner or "")
        if assignee:
            made["assignee"] = {"id" if self._api.is_cloud else "name": assignee}
        return made

    def duplicates(self, debt: Debt, ref: TicketRef) -> list[TicketRef]:
        """Return the debt's other issues, oldest first."""
        known = (ref.issue_id,) if ref.issue_id else ()
        return [found.ref for found in self._verified(debt, known) if not _same(found.ref, ref)]

    def _verified(self, debt: Debt, known: Iterable[str]) -> list[FoundTicket]:
        """Return the issues with the debt's label whose identity is the debt's, oldest first."""
        labelled = []
        query = f"labels = {quoted(debt.label)} ORDER BY created ASC"
        for page in self._api.search(query, ["labels", "created"], tuple(known)):
            with self._api.reading("search for a ticket"):
                # A server that did not understand a clause returns other people's issues.
                ours = [issue for issue in page if debt.label in issue["fields"].get("labels", ())]
            if not ours and len(page) == PAGE:
                raise TicketError(
                    f"{self._api.url} did not search by label, so that it cannot be known whether a ticket"
                    " exists. Check what stands between this host and Jira"
                )
            labelled += ours
        found = []
        for issue in sorted(labelled, key=lambda one: str(one["fields"].get("created") or "")):
            identity = self._identity(self._ref(issue))
            if identity is not None and identity.belongs_to(debt):
                found.append(FoundTicket(self._ref(issue), identity.occurrences))
        return found

    def _identity(self, ref: TicketRef) -> IssueIdentity | None:
        """Read an issue's identity from its property, or from its text where properties are not kept."""
        what = "say whose ticket it is"
        path = f"/rest/api/2/issue/{_segment(ref.issue_id or ref.key)}/properties"
        kept = self._api.find(f"{path}/{PROPERTY}", what)
        if kept is not None:
            with self._api.reading(what):
                return IssueIdentity.from_property(kept.get("value"))
        if self._api.find(path, what) is not None:
            # This Jira keeps properties and the issue has none of ours: its label, or all of it, was copied.
            return None
        issue = self._api.find(f"/rest/api/2/issue/{_segment(ref.key)}", what, fields="description")
        if issue is None:
            return None
        with self._api.reading(what):
            return IssueIdentity.from_text(issue["fields"].get("description"))

    # -- how tickets look

    def open_tickets(self, known: Iterable[str]) -> dict[str, TicketSnapshot]:
        """Return the issues with our label that are not done, by id."""
        query = f"labels = {quoted(LABEL)} AND statusCategory != Done ORDER BY created ASC"
        found = {}
        for page in self._api.search(query, [*_SEEN, "labels"], tuple(known)):
            for issue in page:
                with self._api.reading("list tickets"):
                    if LABEL in issue["fields"].get("labels", ()):
                        found[str(issue["id"])] = self._snapshot(issue)
        return found

    def see(self, ref: TicketRef) -> TicketSnapshot:
        """Look at an issue by its id, which stays when it moves, and else by its key."""
        for name in dict.fromkeys(name for name in (ref.issue_id, ref.key) if name):
            path = f"/rest/api/2/issue/{_segment(name)}"
            issue = self._api.find(path, "show a ticket", fields=",".join(_SEEN))
            if issue is not None:
                with self._api.reading("show a ticket"):
                    return self._snapshot(issue)
        return TicketSnapshot(ref, TicketStatus.GONE)

    def _snapshot(self, issue: dict[str, Any]) -> TicketSnapshot:
        fields = issue["fields"]
        category = fields["status"]["statusCategory"]["key"]
        known = category in (TicketStatus.NEW, TicketStatus.DONE)
        return TicketSnapshot(
            self._ref(issue),
            TicketStatus(category) if known else TicketStatus.INDETERMINATE,
            (fields.get("priority") or {}).get("name"),
            str(fields.get("resolutiondate") or ""),
            tuple(fields.get("labels") or ()),
        )

    # -- operations

    def comment(self, ref: TicketRef, note: Comment) -> None:
        """Add a comment, its marker in the last line."""
        body = {"body": note_text(note)}
        self._api.post(f"{self._path(ref)}/comment", "take a comment", body)

    def has_comment(self, ref: TicketRef, note: Comment) -> bool:
        """Whether a comment holds the marker; a comment that quotes it proves that it was there."""
        comments = self._api.values(f"{self._path(ref)}/comment", "list comments", ["comments"])
        # Cloud keeps another format and may give wiki text back with escapes of its own.
        return any(note.marker in str(one.get("body", "")).replace("\\", "") for one in comments)

    def attach(self, ref: TicketRef, name: str, content: bytes, media_type: str) -> None:
        """Attach a file."""
        self._api.upload(f"{self._path(ref)}/attachments", "take a file", name, content, media_type)

    def has_attachment(self, ref: TicketRef, name: str) -> bool:
        """Whether a file of that name is attached."""
        issue = self._api.get(self._path(ref), "list files", fields="attachment")
        with self._api.reading("list files"):
            return any(one["filename"] == name for one in issue["fields"].get("attachment") or ())

    def link(self, ref: TicketRef, global_id: str, url: str, title: str) -> None:
        """Link a page; Jira keeps one link for one ``global_id`` (at most 255 characters)."""
        body = {
            "globalId": global_id,
            "application": {"type": "org.apache.airflow", "name": "Apache Airflow"},
            "relationship": "breached in",
            "object": {"url": url, "title": title[:255]},
        }
        self._api.post(f"{self._path(ref)}/remotelink", "link the DAG run", body)

    def wanted_priority(self, context: TicketContext) -> str | None:
        """Return the priority that the issue should have at least; None when none is set."""
        return priority_of(context, context.fields.over(self._defaults))

    def raise_priority(self, ref: TicketRef, priority: str) -> None:
        """Raise an issue's priority; what people have set as high or higher stays."""
        names = self._api.priorities()
        now = self.see(ref).priority
        if priority not in names:
            raise TicketError(
                f"{self._api.url} has no priority {priority!r} (it has {', '.join(names)}). Correct"
                " `tickets.priority` in the budget file or in the connection's extra",
                refused=True,
            )
        # The list begins with the highest.
        if now in names and names.index(now) <= names.index(priority):
            return
        self._api.put(self._path(ref), "raise the priority", {"fields": {"priority": {"name": priority}}})

    def close(self, ref: TicketRef, close_with: str | None) -> None:
        """Bring an issue into a status of the category done."""
        if self.see(ref).status is TicketStatus.DONE:
            return
        close_with = close_with or self._defaults.close_with
        ways = [way for way in self._transitions(ref) if way.to is TicketStatus.DONE]
        if close_with is not None:
            ways = [way for way in ways if close_with.lower() in (way.name.lower(), way.status.lower())]
        if not ways:
            wanted = f"{close_with!r}" if close_with else "a status of the category done"
            raise TicketError(
                f"{ref.key}: no transition leads from its status to {wanted}. Close it by hand, or let the"
                " workflow (and the user's rights) allow it",
                refused=True,
            )
        self._go(ref, min(ways, key=lambda way: way.effort), "close a ticket")

    def reopen(self, ref: TicketRef) -> None:
        """Bring an issue out of the category done."""
        if self.see(ref).status is not TicketStatus.DONE:
            return
        ways = [way for way in self._transitions(ref) if way.to is not TicketStatus.DONE]
        if not ways:
            raise TicketError(
                f"{ref.key}: its workflow has no transition out of its status. Reopen it by hand",
                refused=True,
            )
        self._go(
            ref, min(ways, key=lambda way: (way.to is not TicketStatus.NEW, way.effort)), "reopen a ticket"
        )

    def _transitions(self, ref: TicketRef) -> list[Transition]:
        path = f"{self._path(ref)}/transitions"
        answer = self._api.get(path, "list transitions", expand="transitions.fields")
        with self._api.reading("list transitions"):
            return transitions_in(answer)

    def _go(self, ref: TicketRef, way: Transition, what: str) -> None:
        self._api.post(f"{self._path(ref)}/transitions", what, way.body)

    def link_duplicate(self, duplicate: TicketRef, original: TicketRef) -> None:
        """Link two issues so that the first says that it duplicates the second."""
        body = {
            "type": {"name": _DUPLICATE},
            "inwardIssue": {"key": duplicate.key},
            "outwardIssue": {"key": original.key},
        }
        self._api.post("/rest/api/2/issueLink", "link a duplicate", body)

    def has_duplicate_link(self, duplicate: TicketRef, original: TicketRef) -> bool:
        """Whether the first issue says that it duplicates the second."""
        issue = self._api.get(self._path(duplicate), "list links", fields="issuelinks")
        with self._api.reading("list links"):
            return any(
                link["type"]["name"] == _DUPLICATE
                and (link.get("outwardIssue") or {}).get("key") == original.key
                for link in issue["fields"].get("issuelinks") or ()
            )

    def _path(self, ref: TicketRef) -> str:
        # The key, which a snapshot has just brought up to date; not every server knows issues by their id.
        return f"/rest/api/2/issue/{_segment(ref.key)}"

    def _ref(self, issue: dict[str, Any]) -> TicketRef:
        key = str(issue["key"])
        return TicketRef(key, f"{self._api.url}/browse/{key}", str(issue["id"]))


def priority_of(context: TicketContext, fields: TicketFields) -> str | None:
    """Return the priority that a ticket should have at least; None when none is set.

    By the debt's severity, and one severity higher when it came back or was escalated.
    """
    gravest = (Severity.CRITICAL, Severity.MAJOR, Severity.MINOR)
    rank = gravest.index(context.debt.severity)
    if context.is_urgent:
        rank = max(rank - 1, 0)
    # Where the raised one is not configured, the severity's own holds.
    for severity in (gravest[rank], context.debt.severity):
        if severity.value in fields.priority:
            return fields.priority[severity.value]
    return None


def _same(one: TicketRef, other: TicketRef) -> bool:
    if one.issue_id and other.issue_id:
        return one.issue_id == other.issue_id
    return one.key == other.key


def _segment(name: str) -> str:
    return quote(name, safe="")
