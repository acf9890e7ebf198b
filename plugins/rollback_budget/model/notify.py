"""Who is notified of what in a rollout, as the spec says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue

from rollback_budget.model.mistake import Mistake, mistake, name_type, nearest, quote, wrong
from rollback_budget.model.section import Section, Written, one_or_list
from rollback_budget.registry import Group, RegistryError, is_registered, load, names, own_names

_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class Event(StrEnum):
    """What a notifier can subscribe to."""

    BREACH = "breach"
    BLIND = "blind"
    REVIEW_OPENED = "review_opened"
    DEADLINE_NEAR = "deadline_near"
    DECIDED = "decided"
    ROLLED_BACK = "rolled_back"
    VERIFICATION_FAILED = "verification_failed"
    PROMOTED = "promoted"
    WATCH_LOST = "watch_lost"
    WATCH_BACK = "watch_back"
    DEBT_DUE = "debt_due"
    DEBT_OVERDUE = "debt_overdue"
    DEBT_BACKLOG = "debt_backlog"


#: What a notifier sends when its `events` are not given: everything but the daily list.
BY_DEFAULT = tuple(event for event in Event if event is not Event.DEBT_BACKLOG)


class NotifierEntry(NamedTuple):
    """An Airflow notifier with a short name: what is registered in ``rollback_budget.notifiers``.

    :param path: of the class, a subclass of ``airflow.sdk.BaseNotifier``. One argument of its constructor at
        least is a message: ``text``, ``message``, ``body``, ``description``, ``subject``, ``title``,
        ``summary`` or ``html_content``. It is imported when something is sent, not before.
    :param conn_argument: what its constructor calls the connection.
    :param needs: arguments that it cannot do without.
    :param package: what to install for it; None for what is always there.
    """

    path: str
    conn_argument: str
    needs: tuple[str, ...] = ()
    package: str | None = None


def notifier_entry(name: str) -> NotifierEntry | None:
    """Return what is registered under a short name, None when nothing is.

    :raises RegistryError: it cannot be imported, or is something else.
    """
    if not is_registered(Group.NOTIFIERS, name):
        return None
    found = load(Group.NOTIFIERS, name)
    if not isinstance(found, NotifierEntry):
        raise RegistryError(f"what is registered as {name!r} in {Group.NOTIFIERS} is no NotifierEntry")
    return found


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


class Notify(Section):
    """One notifier and the events that it subscribes to.

    :param notifier: a short name (:func:`notifier_entry`), or the path of an Airflow notifier class.
    :param conn_id: the connection, for a short name; a class takes it in ``args``.
    :param args: further arguments of its constructor; data, never rendered as templates.
    """

    notifier: str = Field(
        examples=["slack"],
        description=f"{', '.join(own_names(Group.NOTIFIERS))}, or the path of an Airflow notifier class.",
    )
    conn_id: str | None = Field(default=None, examples=["oncall"], description="The connection.")
    args: dict[str, Any] = Field(default_factory=dict)
    events: Annotated[tuple[Event, ...], Written(_as_events, one_or_list)] = Field(
        default=BY_DEFAULT,
        description="The events that it sends; by default everything but `debt_backlog`, the daily list.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield unknown short names, and what a known notifier lacks."""
        yield from super().mistakes(data)
        name, args = data.get("notifier"), data.get("args", {})
        if not isinstance(name, str) or not isinstance(args, dict):
            return
        try:
            known = notifier_entry(name)
        except RegistryError as error:
            yield mistake(("notifier",), str(error))
            return
        if known is None:
            if not _CLASS_PATH.fullmatch(name):
                known_names = names(Group.NOTIFIERS)
                meant = nearest(name, known_names)
                hint = f"did you mean {meant}?" if meant else f"known: {', '.join(known_names)}"
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


def _as_notifiers(value: object) -> object:
    """Read one notifier, or a list of them."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise wrong(f"must be a list of notifiers (`- notifier: slack`), not {name_type(value)}")


def _one_list_or_nothing(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [*one_or_list(schema)["anyOf"], {"type": "null"}]}


#: Several notifiers, or a single one without a list.
Notifiers = Annotated[tuple[Notify, ...], Written(_as_notifiers, _one_list_or_nothing)]
