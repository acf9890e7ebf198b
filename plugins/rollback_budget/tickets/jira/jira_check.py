"""What a Jira has to allow so that debts can be filed, talked about and closed, point by point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rollback_budget.exceptions import TicketError
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.base import TicketStatus
from rollback_budget.tickets.jira.api import JiraApi, RefusedError, quoted
from rollback_budget.tickets.jira.tracker import ISSUE_TYPE, LABEL
from rollback_budget.tickets.jira.transitions import transitions_in

#: What the user needs in the project, and what for.
PERMISSIONS = {
    "BROWSE_PROJECTS": "find tickets",
    "CREATE_ISSUES": "file tickets",
    "EDIT_ISSUES": "raise the priority",
    "ADD_COMMENTS": "comment on recurrences, proofs and what is missing",
    "CREATE_ATTACHMENTS": "attach charts, series and proofs",
    "LINK_ISSUES": "link DAG runs and duplicates",
    "TRANSITION_ISSUES": "close the tickets of paid debts",
    "RESOLVE_ISSUES": "set a resolution where closing asks for one",
}
#: Fields that every ticket is created with.
_ALWAYS = ("project", "issuetype", "summary", "description", "labels")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One point: fine, missing, or not to be found out (None), and what was seen or is to be done."""

    check: str
    fine: bool | None
    detail: str


def check_jira(api: JiraApi, fields: TicketFields) -> list[CheckResult]:
    """Return every point. What cannot be queried is a finding too; nothing is raised, and nothing is written.

    :param fields: how tickets will be filled in.
    """
    return list(_Check(api, fields).run())


class _Check:
    def __init__(self, api: JiraApi, fields: TicketFields) -> None:
        self._api = api
        self._fields = fields
        self._project = fields.project or ""
        self._type = fields.issue_type or ISSUE_TYPE

    def run(self) -> Iterator[CheckResult]:
        first = {"server": self._server, "login": self._login, "project": self._in_project}
        for check, query in first.items():
            finding = self._single(check, query)
            yield finding
            if not finding.fine:
                return
        yield from self._several("permissions", self._permissions)
        yield from self._several("create screen", self._create_screen)
        yield self._single("close", self._done_status)
        yield from self._several("transitions", self._transitions)
        yield self._single("duplicates", self._link_type)
        yield self._single("attachments", self._attachments)

    def _single(self, check: str, query: Callable[[], CheckResult]) -> CheckResult:
        return next(iter(self._several(check, lambda: [query()])))

    def _several(self, check: str, query: Callable[[], Any]) -> Iterator[CheckResult]:
        try:
            # All of it, because what follows a failure in the middle says nothing.
            yield from list(query())
        except TicketError as error:
            # This Jira does not have the question; older ones do not.
            unknown = isinstance(error, RefusedError) and error.status in (404, 405)
            yield CheckResult(check, None if unknown else False, str(error))

    def _server(self) -> CheckResult:
        info = self._api.get("/rest/api/2/serverInfo", "say what it is")
        with self._api.reading("say what it is"):
            kind = "Cloud" if self._api.is_cloud else "Data Center or Server"
            return CheckResult("server", True, f"Jira {kind} {info['version']} at {self._api.url}")

    def _login(self) -> CheckResult:
        me = self._api.get("/rest/api/2/myself", "say who logs in")
        with self._api.reading("say who logs in"):
            return CheckResult("login", True, f"as {me['displayName']}")

    def _in_project(self) -> CheckResult:
        if not self._project:
            return CheckResult("project", False, "none is named; add `project` to the connection's extra")
        path = f"/rest/api/2/project/{_segment(self._project)}"
        project = self._api.find(path, "show the project")
        if project is None:
            said = f"there is no {self._project!r} that this user may browse; correct `tickets.project`"
            return CheckResult("project", False, said)
        with self._api.reading("show the project"):
            return CheckResult("project", True, f"{project['key']} ({project['name']})")

    def _permissions(self) -> Iterator[CheckResult]:
        wanted = dict(PERMISSIONS)
        if self._fields.assignee:
            wanted["ASSIGN_ISSUES"] = "assign tickets by owner"
        answer = self._api.get(
            "/rest/api/2/mypermissions",
            "list permissions",
            projectKey=self._project,
            permissions=",".join(wanted),
        )
        with self._api.reading("list permissions"):
            for name, use in wanted.items():
                has = bool((answer["permissions"].get(name) or {}).get("havePermission"))
                missing = f"give the user {name} in the project, to {use}"
                yield CheckResult(f"permission {name}", has, f"to {use}" if has else missing)

    def _create_screen(self) -> Iterator[CheckResult]:
        types = self._issue_types()
        if self._type not in types:
            known = ", ".join(types) or "none that this user may create"
            said = (
                f"the project has no issue type {self._type!r} (it has {known}); correct `tickets.issue_type`"
            )
            yield CheckResult("issue type", False, said)
            return
        yield CheckResult("issue type", True, self._type)
        screen = types[self._type]()
        yield from self._required(screen)
        yield from self._accepted(screen)
        yield from self._values(screen)

    def _issue_types(self) -> dict[str, Callable[[], dict[str, dict[str, Any]]]]:
        """Return by name how to query the fields of an issue type's create screen."""
        path = f"/rest/api/2/issue/createmeta/{_segment(self._project)}/issuetypes"
        what = "list issue types"
        try:
            types = self._api.values(path, what, ("issueTypes", "values"))
        except RefusedError as error:
            if error.status != 404:
                raise
            return self._issue_types_of_old()
        with self._api.reading(what):
            return {str(one["name"]): _later(self._screen, str(one["id"])) for one in types}

    def _screen(self, type_id: str) -> dict[str, dict[str, Any]]:
        path = f"/rest/api/2/issue/createmeta/{_segment(self._project)}/issuetypes/{_segment(type_id)}"
        fields = self._api.values(path, "show the create screen", ("fields", "values"))
        with self._api.reading("show the create screen"):
            return {str(one["fieldId"]): one for one in fields}

    def _issue_types_of_old(self) -> dict[str, Callable[[], dict[str, dict[str, Any]]]]:
        """Query as Jira before 8.4 expects it."""
        answer = self._api.get(
            "/rest/api/2/issue/createmeta",
            "list issue types",
            projectKeys=self._project,
            expand="projects.issuetypes.fields",
        )
        with self._api.reading("list issue types"):
            types = [one for project in answer["projects"] for one in project["issuetypes"]]
            return {str(one["name"]): _later(lambda fields: fields, one.get("fields") or {}) for one in types}

    def _required(self, screen: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
        sent = {*_ALWAYS, *self._fields.fields}
        sent |= {"priority"} if self._fields.priority else set()
        sent |= {"components"} if self._fields.components else set()
        sent |= {"assignee"} if self._fields.assignee else set()
        missing = [
            f"{field.get('name', name)} ({name})"
            for name, field in screen.items()
            # The reporter is the user who logs in.
            if field.get("required") and not field.get("hasDefaultValue") and name not in {*sent, "reporter"}
        ]
        if missing:
            said = f"the create screen requires {', '.join(missing)}; give values under `tickets.fields`"
            yield CheckResult("required fields", False, said)
        else:
            yield CheckResult("required fields", True, "the create screen requires nothing else")

    def _accepted(self, screen: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
        used = {
            "description": True,
            "labels": True,
            "priority": bool(self._fields.priority),
            "components": bool(self._fields.components),
            "assignee": bool(self._fields.assignee),
            **dict.fromkeys(self._fields.fields, True),
        }
        absent = [name for name, is_used in used.items() if is_used and name not in screen]
        if absent:
            said = (
                f"the create screen lacks {', '.join(absent)}; add them to it, or leave them out of `tickets`"
            )
            yield CheckResult("create screen", False, said)
        else:
            yield CheckResult("create screen", True, "takes every field that is sent")

    def _values(self, screen: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
        for name, wanted in (
            ("priority", tuple(dict.fromkeys(self._fields.priority.values()))),
            ("components", self._fields.components),
        ):
            if not wanted or name not in screen:
                continue
            allowed = self._allowed(name, screen[name])
            unknown = [value for value in wanted if value not in allowed]
            if unknown:
                said = f"there is no {', '.join(unknown)} (there is {', '.join(allowed) or 'nothing'})"
                yield CheckResult(name, False, f"{said}; correct `tickets.{name}`")
            else:
                yield CheckResult(name, True, ", ".join(wanted))

    def _allowed(self, name: str, field: Mapping[str, Any]) -> list[str]:
        values = field.get("allowedValues")
        if values is None and name == "priority":
            return self._api.priorities()
        if values is None:
            path = f"/rest/api/2/project/{_segment(self._project)}/components"
            values = self._api.get(path, f"list {name}")
        with self._api.reading(f"list {name}"):
            return [str(value["name"]) for value in values]

    def _done_status(self) -> CheckResult:
        path = f"/rest/api/2/project/{_segment(self._project)}/statuses"
        answer = self._api.get(path, "list statuses")
        with self._api.reading("list statuses"):
            done = [
                str(status["name"])
                for one in answer
                if one["name"] == self._type
                for status in one["statuses"]
                if status["statusCategory"]["key"] == TicketStatus.DONE
            ]
        if not done:
            said = f"the workflow of {self._type} has no status of the category done, so tickets stay open"
            return CheckResult("close", False, said)
        return CheckResult("close", True, f"statuses of the category done: {', '.join(done)}")

    def _transitions(self) -> Iterator[CheckResult]:
        """Look at a ticket that is there; transitions cannot be queried without one."""
        query = f"project = {quoted(self._project)} AND labels = {quoted(LABEL)} AND statusCategory != Done"
        page = next(self._api.search(query, ["status", "labels"]), [])
        with self._api.reading("list tickets"):
            ours = [one for one in page if LABEL in one["fields"].get("labels", ())]
        if not ours:
            yield CheckResult(
                "transitions", None, "can be looked at once the project has an open ticket of ours"
            )
            return
        key = str(ours[0]["key"])
        path = f"/rest/api/2/issue/{_segment(key)}/transitions"
        answer = self._api.get(path, "list transitions", expand="transitions.fields")
        with self._api.reading("list transitions"):
            ways = [way for way in transitions_in(answer) if way.to is TicketStatus.DONE]
        wanted = self._fields.close_with
        if wanted is not None:
            ways = [way for way in ways if wanted.lower() in (way.name.lower(), way.status.lower())]
        if ways:
            yield CheckResult(
                "transitions", True, f"{key} can be closed by {', '.join(w.name for w in ways)}"
            )
        else:
            to = repr(wanted) if wanted else "a status of the category done"
            yield CheckResult("transitions", False, f"none leads {key} from where it is to {to}")

    def _link_type(self) -> CheckResult:
        answer = self._api.get("/rest/api/2/issueLinkType", "list link types")
        with self._api.reading("list link types"):
            names = [str(one["name"]) for one in answer["issueLinkTypes"]]
        if "Duplicate" in names:
            return CheckResult("duplicates", True, "can be linked")
        said = f"there is no link type 'Duplicate' (there is {', '.join(names) or 'none'}); add it"
        return CheckResult("duplicates", False, said)

    def _attachments(self) -> CheckResult:
        meta = self._api.get("/rest/api/2/attachment/meta", "say whether it takes files")
        with self._api.reading("say whether it takes files"):
            if meta["enabled"]:
                return CheckResult("attachments", True, f"up to {int(meta['uploadLimit']):,} bytes a file")
        return CheckResult("attachments", False, "are switched off; switch them on in Jira's system settings")


def _later(query: Callable[[Any], Any], what: Any) -> Callable[[], Any]:
    return lambda: query(what)


def _segment(name: str) -> str:
    return quote(name, safe="")
