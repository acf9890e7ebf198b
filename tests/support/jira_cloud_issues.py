"""The issues of the Jira Cloud stand-in: what they hold, what may be written, and how a search finds them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PRIORITIES = ("Highest", "High", "Medium", "Low", "Lowest")
RESOLUTIONS = ("Won't Do", "Done", "Duplicate")
COMPONENTS = ("assistant", "search")
ISSUE_TYPES = {"Task": "10001", "Bug": "10002", "Story": "10003"}
#: Name, category, and the transition that leads there.
STATUSES = {
    "To Do": ("new", "11"),
    "In Progress": ("indeterminate", "21"),
    "Done": ("done", "31"),
    "Won't Do": ("done", "41"),
}
ACCOUNTS = ("5b10ac8d82e05b22cc7d4ef5",)
CREATE_KEYS = {"fields", "historyMetadata", "properties", "transition", "update"}
COMMENT_KEYS = {"body", "visibility", "properties", "parentId", "jsdPublic"}
REMOTE_KEYS = {"globalId", "application", "relationship", "object"}
SEARCH_KEYS = {
    "expand", "fields", "fieldsByKeys", "jql", "maxResults", "nextPageToken", "properties", "reconcileIssues"
}  # fmt: skip
LONGEST_TEXT, LONGEST_PROPERTY = 32_767, 32_768


class RefusalError(Exception):
    """An answer other than a success."""

    def __init__(self, status: int, *messages: str, **errors: str) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.body = {"errorMessages": list(messages), "errors": errors}


@dataclass
class Issue:
    """One issue; times are seconds of the stand-in's own clock."""

    id: int
    project: str
    number: int
    fields: dict[str, Any]
    created: float
    updated: float
    status: str = "To Do"
    resolution: str | None = None
    resolved: float | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[tuple[str, bytes, str]] = field(default_factory=list)
    remote_links: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    former_keys: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.project}-{self.number}"

    @property
    def category(self) -> str:
        return STATUSES[self.status][0]


@dataclass(frozen=True)
class Indexed:
    """What the search index knows of an issue."""

    at: float
    project: str
    labels: tuple[str, ...]
    category: str


def stamp(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"2026-03-01T{12 + int(minutes // 60):02}:{int(minutes % 60):02}:{rest:06.3f}+0000"


def check_keys(given: object, known: set[str], what: str = "") -> dict[str, Any]:
    """Refuse a body that is no object, or has a key that the documentation does not name."""
    if not isinstance(given, dict):
        raise RefusalError(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    unknown = set(given) - known
    if unknown:
        raise RefusalError(400, f"Invalid request payload: unrecognized {what}field(s) {sorted(unknown)}.")
    return given


def check_text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RefusalError(400, **{what: f"Operation value must be a string ({what})."})
    if len(value) > LONGEST_TEXT:
        raise RefusalError(400, **{what: "The entered text is too long. It exceeds the limit of 32,767."})
    return value


def check_properties(given: object) -> dict[str, Any]:
    """Read entity properties, as a creation brings them."""
    properties = {}
    for one in given if isinstance(given, list) else [given]:
        entry = check_keys(one, {"key", "value"}, "property ")
        if not isinstance(entry.get("key"), str) or not 0 < len(entry["key"]) <= 255:
            raise RefusalError(400, "The property key must be between 1 and 255 characters.")
        if len(json.dumps(entry.get("value"))) > LONGEST_PROPERTY:
            raise RefusalError(400, "The value of the property is too long.")
        properties[entry["key"]] = entry["value"]
    return properties


def _named(value: object, known: tuple[str, ...], what: str) -> None:
    name = value.get("name") if isinstance(value, dict) else None
    if name not in known:
        raise RefusalError(400, **{what: f"The {what} selected is invalid."})


def _labels(value: object) -> None:
    for label in value if isinstance(value, list) else [None]:
        if not isinstance(label, str) or re.search(r"\s", label) or not 0 < len(label) <= 255:
            raise RefusalError(400, labels=f"The label '{label}' contains spaces which is invalid.")


def _summary(value: object) -> None:
    text = check_text(value, "summary")
    if "\n" in text or len(text) > 255:
        raise RefusalError(
            400, summary="The summary is invalid: too long, or it contains newline characters."
        )


def _assignee(value: object) -> None:
    if not isinstance(value, dict) or set(value) != {"id"}:
        raise RefusalError(400, assignee="A user is named by 'id', the account id.")
    if value["id"] not in ACCOUNTS:
        raise RefusalError(400, assignee="Specify a valid value for assignee")


def _components(value: object) -> None:
    for one in value if isinstance(value, list) else [None]:
        _named(one, COMPONENTS, "components")


FIELD_CHECKS: dict[str, Callable[[object], object]] = {
    "summary": _summary,
    "description": lambda value: check_text(value, "description"),
    "labels": _labels,
    "priority": lambda value: _named(value, PRIORITIES, "priority"),
    "components": _components,
    "assignee": _assignee,
    "issuetype": lambda value: _named(value, tuple(ISSUE_TYPES), "issuetype"),
    "customfield_10010": lambda value: _named(
        {"name": (value or {}).get("value") if isinstance(value, dict) else None}, ("Production", "Test"),
        "customfield_10010",
    ),
}  # fmt: skip


def check_fields(given: object, screen: set[str]) -> dict[str, Any]:
    """Refuse fields that are not on the screen, and values that they do not take."""
    if not isinstance(given, dict):
        raise RefusalError(400, "fields must be an object")
    for name, value in given.items():
        if name not in screen:
            why = f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown."
            raise RefusalError(400, **{name: why})
        if name in FIELD_CHECKS:
            FIELD_CHECKS[name](value)
    return given


_CLAUSE = re.compile(
    r"\s*(?P<field>\w+)\s*(?P<op>=|!=)\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<word>[\w-]+))\s*"
)
_ORDER = re.compile(r"\s+ORDER BY\s+(created|updated|key)(\s+(ASC|DESC))?\s*$", re.I)
_SEARCHABLE = {"project", "labels", "statusCategory"}
_CATEGORIES = {"to do": "new", "new": "new", "in progress": "indeterminate", "done": "done"}


def parse_jql(jql: object) -> Callable[[Indexed], bool]:
    """Read the JQL that we use; anything else is refused, so that no clause is ignored silently."""
    if not isinstance(jql, str):
        raise RefusalError(400, "The jql parameter is required.")
    text = _ORDER.sub("", jql)
    if not text.strip():
        raise RefusalError(400, "Unbounded JQL queries are not allowed here. Add a search restriction.")
    tests = []
    for clause in re.split(r"\s+AND\s+", text, flags=re.I):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise RefusalError(400, f"Error in the JQL Query: {clause!r} cannot be read.")
        name, value = match["field"], match["word"] or re.sub(r"\\(.)", r"\1", match["quoted"] or "")
        if name not in _SEARCHABLE:
            raise RefusalError(400, f"Field '{name}' does not exist or you do not have permission.")
        if name == "statusCategory":
            if value.lower() not in _CATEGORIES:
                raise RefusalError(400, f"The value '{value}' does not exist for the field 'statusCategory'.")
            value = _CATEGORIES[value.lower()]
        tests.append((name, match["op"] == "=", value))

    def matches(known: Indexed) -> bool:
        held = {"project": (known.project,), "labels": known.labels, "statusCategory": (known.category,)}
        return all((value in held[name]) is wanted for name, wanted, value in tests)

    return matches
