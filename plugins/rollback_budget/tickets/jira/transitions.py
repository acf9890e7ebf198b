"""Jira's transitions: which ones an issue can take now, and what each requires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rollback_budget.tickets.base import TicketStatus

#: Resolutions that say that the work was done, the best first; else the first that the screen allows.
_RESOLUTIONS = ("done", "fixed", "resolved")
#: Names of transitions and statuses that say the same.
_PLAIN = ("done", "close", "resolve")


@dataclass(frozen=True, slots=True)
class Transition:
    """One way out of an issue's present status.

    :param status: name of the status that it leads to, ``to`` its category.
    :param resolution: what is set on the way, where the screen has that field.
    :param required_fields: how many other fields it demands that we cannot fill in.
    """

    id: str
    name: str
    status: str
    to: TicketStatus
    resolution: str | None = None
    required_fields: int = 0

    @property
    def effort(self) -> tuple[int, bool, bool]:
        """The smaller, the better: requires little, and means that the work was done."""
        plain = any(word in self.name.lower() or word in self.status.lower() for word in _PLAIN)
        # "Won't do" ends in the same category.
        negated = "n't" in self.name.lower() or "n't" in self.status.lower()
        return self.required_fields, negated, not plain

    @property
    def body(self) -> dict[str, Any]:
        """What takes this way, as Jira wants it posted."""
        body: dict[str, Any] = {"transition": {"id": self.id}}
        if self.resolution is not None:
            body["fields"] = {"resolution": {"name": self.resolution}}
        return body


def transitions_in(answer: dict[str, Any]) -> list[Transition]:
    """Read what Jira answers about an issue's transitions, their fields expanded."""
    return [_transition(one) for one in answer["transitions"]]


def _transition(one: dict[str, Any]) -> Transition:
    category = one["to"]["statusCategory"]["key"]
    known = category in (TicketStatus.NEW, TicketStatus.DONE)
    fields = one.get("fields") or {}
    return Transition(
        id=str(one["id"]),
        name=str(one["name"]),
        status=str(one["to"]["name"]),
        to=TicketStatus(category) if known else TicketStatus.INDETERMINATE,
        resolution=_resolution(fields.get("resolution")),
        required_fields=sum(
            1
            for name, field in fields.items()
            if name != "resolution" and field.get("required") and not field.get("hasDefaultValue")
        ),
    )


def _resolution(field: dict[str, Any] | None) -> str | None:
    """Return the resolution to set; None where the screen does not ask for one."""
    if field is None:
        return None
    allowed = [str(value["name"]) for value in field.get("allowedValues") or ()]
    by_name = {name.lower(): name for name in reversed(allowed)}
    preferred = next((by_name[name] for name in _RESOLUTIONS if name in by_name), None)
    return preferred or next(iter(allowed), None)
