"""Who is told what about a rollout, as the spec says it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field

from rollback_budget.model.base import Frozen
from rollback_budget.registry import Group, RegistryError, is_registered, load


class Event(StrEnum):
    """What somebody may want to be told."""

    BREACH = "breach"
    BLIND = "blind"
    REVIEW_OPENED = "review_opened"
    DEADLINE_NEAR = "deadline_near"
    DECIDED = "decided"
    ROLLED_BACK = "rolled_back"
    VERIFICATION_FAILED = "verification_failed"
    PROMOTED = "promoted"
    DEBT_DUE = "debt_due"
    DEBT_OVERDUE = "debt_overdue"
    DEBT_BACKLOG = "debt_backlog"


#: What a notifier is told when nobody says what: everything but the daily list.
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


class Notify(Frozen):
    """One notifier and what it is told.

    :param notifier: a short name (:func:`notifier_entry`), or the path of an Airflow notifier class.
    :param conn_id: the connection, for a short name; a class takes it in ``args``.
    :param args: further arguments of its constructor; data, never rendered as templates.
    """

    notifier: str
    conn_id: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    events: tuple[Event, ...] = BY_DEFAULT
