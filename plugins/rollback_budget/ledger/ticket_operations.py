"""Ticket operations: what is done to a ticket once, such as a comment, claimed before it is sent.

An operation has no row until it is claimed. Its row then says how it ended: done; refused, with what the
tracker said; or nothing, while it is under way and after its answer was lost. The last two can be claimed
again after a while, and the new claim's holder must look first whether it was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, or_, select, update

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_models import TicketOperationRow
from rollback_budget.ledger.debt_views import ClosedBy

#: Longer than all requests of one operation can take together, and than a lost request can still be at work.
LOST_AFTER = timedelta(minutes=5)
#: What was refused is tried again this much later: the missing permission may have been given.
REFUSED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OperationClaim:
    """The right to do one operation.

    :param again: it may have been done already.
    """

    debt_fingerprint: str
    cycle: int
    occasion: str
    claimed_at: datetime
    again: bool


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """An operation in the ledger; neither done nor refused: under way, or its answer was lost.

    :param closed_by: who closed the ticket, where the operation closes it or answers a closing.
    """

    occasion: str
    claimed_at: datetime
    done_at: datetime | None = None
    error: str | None = None
    closed_by: ClosedBy | None = None


class TicketOperations(Repository):
    """What is done to the tickets of the debts in the ledger."""

    def claim(
        self,
        fingerprint: str,
        cycle: int,
        occasion: str,
        at: datetime,
        *,
        closed_by: ClosedBy | None = None,
    ) -> OperationClaim | None:
        """Claim an operation; None when it is done, was refused lately, or is under way.

        :param occasion: what makes it one and the same in a cycle of the debt; at most 100 characters.
        :param closed_by: who closed the ticket, where the operation closes it or answers a closing.
        """
        values = {
            "debt_fingerprint": fingerprint,
            "cycle": cycle,
            "occasion": occasion,
            "claimed_at": at,
            "closed_by": None if closed_by is None else closed_by.value,
        }
        with self._database.write() as session:
            if insert_once(session, TicketOperationRow, values):
                return OperationClaim(fingerprint, cycle, occasion, at, again=False)
            claimed = session.execute(
                update(TicketOperationRow)
                .where(
                    TicketOperationRow.debt_fingerprint == fingerprint,
                    TicketOperationRow.cycle == cycle,
                    TicketOperationRow.occasion == occasion,
                    TicketOperationRow.done_at.is_(None),
                    or_(
                        TicketOperationRow.error.is_(None)
                        & (TicketOperationRow.claimed_at <= at - LOST_AFTER),
                        TicketOperationRow.error.is_not(None)
                        & (TicketOperationRow.claimed_at <= at - REFUSED_FOR),
                    ),
                )
                .values(claimed_at=at, error=None)
                .returning(TicketOperationRow.id)
            )
            if claimed.first() is None:
                return None
            return OperationClaim(fingerprint, cycle, occasion, at, again=True)

    def done(self, claim: OperationClaim, at: datetime) -> None:
        """Store that a claimed operation is done."""
        with self._database.write() as session:
            session.execute(update(TicketOperationRow).where(*_of(claim)).values(done_at=at, error=None))

    def refused(self, claim: OperationClaim, error: str) -> None:
        """Store what the tracker said when it refused; no effect once another caller has claimed it."""
        with self._database.write() as session:
            mine = TicketOperationRow.claimed_at == claim.claimed_at
            session.execute(update(TicketOperationRow).where(*_of(claim), mine).values(error=error))

    def release(self, claim: OperationClaim) -> None:
        """Give a claim back after a failure before which certainly nothing was done, at any time."""
        with self._database.write() as session:
            mine = TicketOperationRow.claimed_at == claim.claimed_at
            session.execute(
                delete(TicketOperationRow).where(*_of(claim), mine, TicketOperationRow.done_at.is_(None))
            )

    def of(self, fingerprint: str, cycle: int) -> list[OperationRecord]:
        """Return the operations of one cycle of a debt, in the order of their first claim."""
        query = (
            select(TicketOperationRow)
            .where(TicketOperationRow.debt_fingerprint == fingerprint, TicketOperationRow.cycle == cycle)
            .order_by(TicketOperationRow.id)
        )
        with self._database.read() as session:
            return [
                OperationRecord(
                    row.occasion,
                    row.claimed_at,
                    row.done_at,
                    row.error,
                    None if row.closed_by is None else ClosedBy(row.closed_by),
                )
                for row in session.scalars(query)
            ]


def _of(claim: OperationClaim) -> tuple[ColumnElement[bool], ...]:
    return (
        TicketOperationRow.debt_fingerprint == claim.debt_fingerprint,
        TicketOperationRow.cycle == claim.cycle,
        TicketOperationRow.occasion == claim.occasion,
    )
