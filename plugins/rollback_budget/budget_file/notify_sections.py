"""The section of a budget file that says who is told what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.section import Section, mistake, nearest, wrong
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.notify import BY_DEFAULT, KNOWN, Event, Notify

_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def _as_events(value: object) -> object:
    """Read one event, or a list of them."""
    each = [value] if isinstance(value, str) else value
    if not isinstance(each, list) or not each:
        raise wrong(f"must be a list of {', '.join(Event)}")
    for name in each:
        if name not in tuple(Event):
            meant = nearest(name, list(Event)) if isinstance(name, str) else None
            raise wrong(
                f"cannot hold {quote(str(name))}; "
                + (f"did you mean {meant}?" if meant else f"known: {', '.join(Event)}")
            )
    return each


class NotifySection(Section, Notify):
    """One notifier and what it is told."""

    notifier: str = Field(
        examples=["slack"],
        description=f"{', '.join(KNOWN)}, or the path of an Airflow notifier class.",
    )
    conn_id: str | None = Field(default=None, examples=["oncall"], description="The connection.")
    events: Annotated[
        tuple[Event, ...], BeforeValidator(_as_events, json_schema_input_type=Event | list[Event])
    ] = Field(
        default=BY_DEFAULT,
        description="What it is told; by default everything but `debt_backlog`, the daily list.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield unknown short names, and what a known notifier lacks."""
        yield from super().mistakes(data)
        name, args = data.get("notifier"), data.get("args", {})
        if not isinstance(name, str) or not isinstance(args, dict):
            return
        known = KNOWN.get(name)
        if known is None:
            if not _CLASS_PATH.fullmatch(name):
                meant = nearest(name, list(KNOWN))
                hint = f"did you mean {meant}?" if meant else f"known: {', '.join(KNOWN)}"
                yield mistake(
                    ("notifier",),
                    f"`notifier` {quote(name)} is neither known nor the path of a class; {hint}",
                )
            elif "conn_id" in data:
                why = f"`conn_id` means nothing to {name}; put its connection into `args`"
                yield mistake(("conn_id",), why)
            return
        if "conn_id" not in data and known.conn_argument not in args:
            yield mistake(("conn_id",), f"`conn_id` is missing: the connection for {name}", "absent")
        for need in known.needs:
            if need not in args:
                yield mistake(("args",), f"`args.{need}` is missing: {name} needs it", "absent")


def _as_list(value: object) -> object:
    """Read one notifier, or a list of them."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise wrong(f"must be a list of notifiers (`- notifier: slack`), not {name_type(value)}")


Notifiers = Annotated[
    tuple[NotifySection, ...],
    BeforeValidator(_as_list, json_schema_input_type=NotifySection | list[NotifySection] | None),
]
