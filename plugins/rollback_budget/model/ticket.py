"""What the tickets of a service's eval debts look like, as the spec says it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rollback_budget.model.base import Frozen

#: Fields of an issue that are written by us, so that ``fields`` must not name them.
OWN_FIELDS = {
    "project": "project",
    "issuetype": "issue_type",
    "priority": "priority",
    "components": "components",
    "labels": "labels",
    "assignee": "assignee",
    "summary": None,
    "description": None,
}


class TicketFields(Frozen):
    """How a debt's ticket is filled in. What is left out comes from the connection, then from Jira itself.

    :param project: the project's key.
    :param issue_type: name of the issue type.
    :param priority: name of the priority by severity (``critical``, ``major``, ``minor``); empty: Jira's own
        default, and never raised.
    :param fields: further fields of the create screen by their id, values as Jira's REST API takes them.
    :param assignee: account id (Cloud) or user name (Data Center) by the spec's ``owner``.
    :param close_with: name of the transition or of the status that a paid debt's ticket is closed with;
        None takes the first that leads to a status of the category done.
    """

    project: str | None = None
    issue_type: str | None = None
    priority: dict[str, str] = Field(default_factory=dict)
    components: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    fields: dict[str, Any] = Field(default_factory=dict)
    assignee: dict[str, str] = Field(default_factory=dict)
    close_with: str | None = None

    def over(self, defaults: TicketFields) -> TicketFields:
        """Return these fields, with ``defaults`` where they say nothing."""
        said = {name: value for name in type(self).model_fields if (value := getattr(self, name))}
        return defaults.model_copy(update=said)
