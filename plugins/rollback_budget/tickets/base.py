"""Trackers: where a debt's ticket is kept, what can be done to it there, and how one is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from rollback_budget.connections import ConnectionFields
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.tickets import GONE
from rollback_budget.registry import Group, RegistryError, load_class
from rollback_budget.tickets.ticket_context import TicketContext

#: Where a rollout's DAG run is seen; None when the deployment does not say its address.
RunLink = Callable[[RolloutKey], str | None]


def no_link(_key: RolloutKey) -> None:
    """Return no address: what tickets get when it is not configured where DAG runs are seen."""


class TicketStatus(StrEnum):
    """The category of a ticket's status, in Jira's words, or that there is no such ticket any more."""

    NEW = "new"
    INDETERMINATE = "indeterminate"
    DONE = "done"
    GONE = GONE


@dataclass(frozen=True, slots=True)
class TicketRef:
    """A ticket that exists: its key in the tracker, and where to open it.

    :param issue_id: the tracker's own id, which stays when the ticket moves; None where it has none.
    """

    key: str
    url: str | None = None
    issue_id: str | None = None


@dataclass(frozen=True, slots=True)
class FoundTicket:
    """A debt's ticket as a search found it.

    :param reported: the number of occurrences that it speaks of.
    """

    ref: TicketRef
    reported: int


@dataclass(frozen=True, slots=True)
class TicketSnapshot:
    """How a ticket looked.

    :param closing: distinguishes one closing of it from the next; empty when the tracker does not say.
    :param labels: its labels, as far as they were asked for.
    """

    ref: TicketRef
    status: TicketStatus
    priority: str | None = None
    closing: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comment:
    """What a comment says, before any markup; every string is data.

    :param marker: a line by which the comment is found again.
    """

    marker: str
    paragraphs: tuple[str, ...]
    bullets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrackerDeployment:
    """What the deployment says of its tracker.

    :param conn_id: the Airflow connection; None when no option names one.
    :param connection: returns the fields of a connection.
    :param backlog_folder: where a tracker that needs no server keeps its files.
    :param run_link: where a rollout's DAG run is seen.
    """

    conn_id: str | None
    connection: Callable[[str], ConnectionFields]
    backlog_folder: Path
    run_link: RunLink = no_link

    def require_connection(self) -> ConnectionFields:
        """Return the fields of the tracker's connection. Raises :class:`TicketError` when none is named."""
        if self.conn_id is None:
            raise TicketError(
                "the ticket tracker needs a connection: set [rollback_budget] tracker_conn_id in Airflow's"
                " configuration"
            )
        return self.connection(self.conn_id)


class TicketTracker(ABC):
    """A type of ticket tracker. A subclass is registered as an entry point of ``rollback_budget.trackers``.

    The entry point's name is what the deployment writes as ``[rollback_budget] tracker``.
    """

    @classmethod
    @abstractmethod
    def open(cls, deployment: TrackerDeployment) -> Tracker:
        """Return the tracker: an object of this or of any other class, without a request to it yet.

        Besides :class:`Tracker` it keeps to :class:`RewritingTracker` (its tickets are ours alone and are
        written anew) or to :class:`CommentingTracker` (its tickets belong to people).

        :raises TicketError: the deployment does not say what is needed, or the connection cannot be used.
        """


def tracker_class(name: str) -> type[TicketTracker]:
    """Return the type of tracker that is registered as ``name``.

    :raises TicketError: there is none, or it cannot be imported.
    """
    try:
        return load_class(Group.TRACKERS, name, TicketTracker)
    except RegistryError as error:
        raise TicketError(str(error)) from error


class Tracker(Protocol):
    """A ticket system, opened; used by one task, in one thread.

    The ledger claims every operation before it is sent. So each method makes one attempt and reports what
    became of it as :class:`~rollback_budget.exceptions.TicketError`: with ``ambiguous`` when its answer was
    lost (only of what sends), with ``retry_after`` when the other side is rate-limited. Nothing is sent
    again before :meth:`find` has shown that it did not arrive.
    """

    @property
    def name(self) -> str:
        """What the ledger calls this tracker, at most 20 characters."""
        ...

    @property
    def settle(self) -> timedelta:
        """How long after a lost answer :meth:`find` can be trusted to see what was created."""
        ...

    def find(self, debt: Debt) -> FoundTicket | None:
        """Return the debt's ticket, the oldest when there are several; None when there is none."""
        ...

    def create(self, context: TicketContext) -> TicketRef:
        """Create the debt's ticket with one request, never sent again here."""
        ...


@runtime_checkable
class RewritingTracker(Tracker, Protocol):
    """A tracker whose tickets are ours alone and are written anew."""

    def rewrite(self, ref: TicketRef, context: TicketContext) -> bool:
        """Bring a ticket up to date; calling it again changes nothing. Return whether it changed."""
        ...


@runtime_checkable
class CommentingTracker(Tracker, Protocol):
    """A tracker whose tickets belong to people: their text stays, and news are comments."""

    def link_of(self, key: RolloutKey) -> str | None:
        """Return where a rollout's DAG run is seen."""
        ...

    def open_tickets(self, known: Iterable[str]) -> dict[str, TicketSnapshot]:
        """Return the tickets of ours that are not done, by issue id; it may lag behind.

        :param known: issue ids of which the newest is wanted.
        """
        ...

    def see(self, ref: TicketRef) -> TicketSnapshot:
        """Look at one ticket as it is now, wherever it was moved."""
        ...

    def comment(self, ref: TicketRef, note: Comment) -> None:
        """Add a comment."""
        ...

    def has_comment(self, ref: TicketRef, note: Comment) -> bool:
        """Whether the comment is there."""
        ...

    def attach(self, ref: TicketRef, name: str, content: bytes, media_type: str) -> None:
        """Attach a file."""
        ...

    def has_attachment(self, ref: TicketRef, name: str) -> bool:
        """Whether a file of that name is attached."""
        ...

    def link(self, ref: TicketRef, global_id: str, url: str, title: str) -> None:
        """Link something in another system; the same ``global_id`` again brings the link up to date."""
        ...

    def wanted_priority(self, context: TicketContext) -> str | None:
        """Return the priority that the ticket should have at least; None when none is set."""
        ...

    def raise_priority(self, ref: TicketRef, priority: str) -> None:
        """Raise the priority; one that is as high or higher stays."""
        ...

    def close(self, ref: TicketRef, close_with: str | None) -> None:
        """Bring the ticket into a status of the category done."""
        ...

    def reopen(self, ref: TicketRef) -> None:
        """Bring the ticket into a status of another category than done."""
        ...

    def duplicates(self, debt: Debt, ref: TicketRef) -> list[TicketRef]:
        """Return the debt's other tickets, verified, oldest first."""
        ...

    def link_duplicate(self, duplicate: TicketRef, original: TicketRef) -> None:
        """Say of a ticket that it duplicates another."""
        ...

    def has_duplicate_link(self, duplicate: TicketRef, original: TicketRef) -> bool:
        """Whether that is said already."""
        ...
