"""What the tickets of a service's eval debts look like, as the spec says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from rollback_budget.model.budget import Severity
from rollback_budget.model.mistake import Mistake, mistake, name_type, nearest, quote, wrong
from rollback_budget.model.section import OneOrMoreNames, Section, Written

_KEY = re.compile(r"[A-Z][A-Z0-9_]{1,}")

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


def _by_severity(value: object) -> object:
    """Read one priority for all, or one by severity."""
    if isinstance(value, str):
        return {severity.value: value for severity in Severity}
    if not isinstance(value, dict):
        raise wrong(f"must be a priority's name or one by severity, not {name_type(value)}")
    for key in value:
        if key not in tuple(Severity):
            meant = nearest(key, list(Severity)) or ", ".join(Severity)
            raise wrong(f"has the key {quote(key)}, which is no severity; did you mean {meant}?")
    return value


def _for_all_or_by_severity(schema: JsonSchemaValue) -> JsonSchemaValue:
    by_severity = {**schema, "propertyNames": {"enum": list(Severity)}}
    return {"anyOf": [{"type": "string"}, by_severity]}


class TicketFields(Section):
    """How a debt's ticket is filled in. What is left out comes from the connection, then from Jira itself.

    :param priority: empty: Jira's own default, and never raised.
    :param close_with: None takes the first that leads to a status of the category done.
    """

    project: str | None = Field(default=None, examples=["LLM"], description="The project's key.")
    issue_type: str | None = Field(default=None, examples=["Bug"], description="Name of the issue type.")
    priority: Annotated[dict[str, str], Written(_by_severity, _for_all_or_by_severity)] = Field(
        default_factory=dict, description="Name of the priority, by the debt's severity."
    )
    components: Annotated[tuple[str, ...], OneOrMoreNames] = Field(
        default=(), description="Names of components."
    )
    labels: Annotated[tuple[str, ...], OneOrMoreNames] = Field(
        default=(), description="Labels beside our own."
    )
    fields: dict[str, Any] = Field(
        default_factory=dict,
        examples=[{"customfield_10010": {"value": "Production"}}],
        description="Further fields by their id, values as Jira's REST API takes them.",
    )
    assignee: dict[str, str] = Field(
        default_factory=dict,
        description="Account id (Cloud) or user name (Data Center), by `owner`.",
    )
    close_with: str | None = Field(
        default=None, examples=["Done"], description="Transition or status that closes a paid debt's ticket."
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what Jira would refuse on every ticket."""
        yield from super().mistakes(data)
        project = data.get("project")
        if isinstance(project, str) and project and not _KEY.fullmatch(project):
            why = "is no project key; a key is two or more capital letters and digits, such as LLM"
            yield mistake(("project",), f"`project` {quote(project)} {why}")
        labels = data.get("labels", [])
        for label in [labels] if isinstance(labels, str) else labels if isinstance(labels, list) else []:
            if isinstance(label, str) and re.search(r"\s", label):
                yield mistake(("labels",), f"the label {quote(label)} holds a space, which Jira refuses")
        fields = data.get("fields", {})
        for name in fields if isinstance(fields, dict) else ():
            if name in OWN_FIELDS:
                own = OWN_FIELDS[name]
                hint = f"write it as `{own}`" if own else "it is written from the breach"
                yield mistake(("fields", name), f"`fields` cannot hold {quote(name)}: {hint}")

    def over(self, defaults: TicketFields) -> TicketFields:
        """Return these fields, with ``defaults`` where they say nothing."""
        said = {name: value for name in type(self).model_fields if (value := getattr(self, name))}
        return defaults.model_copy(update=said)
