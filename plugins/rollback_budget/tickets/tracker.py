"""Trackers: where a debt's ticket is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from rollback_budget.ledger.debt_records import Debt
from rollback_budget.ledger.records import LoggedBreach


@dataclass(frozen=True, slots=True)
class TicketRef:
    """A ticket that exists: its key in the tracker, and where to open it."""

    key: str
    url: str | None = None


class Tracker(Protocol):
    """A ticket system.

    Implementations raise :class:`~rollback_budget.errors.TicketError`; only :meth:`create` may be ambiguous.
    """

    @property
    def name(self) -> str:
        """What the ledger calls this tracker, at most 20 characters."""
        ...

    @property
    def settle(self) -> timedelta:
        """How long after a lost answer :meth:`find` can be trusted to see what was created."""
        ...

    def find(self, debt: Debt) -> TicketRef | None:
        """Return the debt's ticket, looked up by its label; None when there is none."""
        ...

    def create(self, debt: Debt, breaches: Sequence[LoggedBreach]) -> TicketRef:
        """Create the debt's ticket with one request, never sent again here.

        :param breaches: the newest breaches of the debt, newest first.
        """
        ...

    def refresh(self, ref: TicketRef, debt: Debt, breaches: Sequence[LoggedBreach]) -> None:
        """Bring a ticket up to date after another breach; calling it again changes nothing."""
        ...
