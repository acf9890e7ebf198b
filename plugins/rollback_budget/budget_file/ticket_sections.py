"""The section of a budget file that says what its tickets look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake, nearest, wrong
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.budget import Severity
from rollback_budget.model.ticket import OWN_FIELDS, TicketFields

_KEY = re.compile(r"[A-Z][A-Z0-9_]{1,}")


def _as_names(value: object) -> object:
    """Read one name, or a list of them."""
    return [value] if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_as_names, json_schema_input_type=str | list[str])]


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


class TicketSection(Section, TicketFields):
    """How the tickets of this service's eval debts are filled in; the connection's extra gives defaults."""

    project: str | None = Field(default=None, examples=["LLM"], description="The project's key.")
    issue_type: str | None = Field(default=None, examples=["Bug"], description="Name of the issue type.")
    priority: Annotated[
        dict[str, str], BeforeValidator(_by_severity, json_schema_input_type=str | dict[Severity, str])
    ] = Field(default_factory=dict, description="Name of the priority, by the debt's severity.")
    components: _Names = Field(default=(), description="Names of components.")
    labels: _Names = Field(default=(), description="Labels beside our own.")
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
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
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
