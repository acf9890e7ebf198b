"""Deeds: what is done to a ticket once, such as a comment, claimed before it is sent.

A deed has no row until somebody claims it. Its row then says how it ended: done; refused, with what the
tracker said; or nothing, while it is under way and after its answer was lost. The last two can be claimed
again after a while, by somebody who must look first whether it was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, or_, select, update

from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.debt_models import GateRunRow, TicketOperationRow
from rollback_budget.ledger.debt_repository import Payments
from rollback_budget.ledger.debt_views import GateRun

#: Longer than all requests of one deed can take together, and than a lost request can still be at work.
LOST_AFTER = timedelta(minutes=5)
#: What was refused is tried again this much later: somebody may have given the right that was missing.
REFUSED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OperationClaim:
    """The right to do one deed.

    :param again: somebody may have done it already.
    """

    debt_fingerprint: str
    cycle: int
    occasion: str
    claimed_at: datetime
    again: bool


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A deed as it stands in the ledger; neither done nor refused: under way, or its answer was lost."""

    occasion: str
    claimed_at: datetime
    done_at: datetime | None = None
    error: str | None = None


class TicketOperations(Payments):
    """What is done to the tickets of the ledger. Every method raises LedgerError."""

    def claim_deed(self, fingerprint: str, cycle: int, occasion: str, at: datetime) -> OperationClaim | None:
        """Claim a deed; None when it is done, was refused lately, or somebody is at it.

        :param occasion: what makes it one and the same deed in a cycle of the debt; at most 100 characters.
        """
        values = {
            "debt_fingerprint": fingerprint,
            "cycle": cycle,
            "occasion": occasion,
            "claimed_at": at,
        }
        with self.write() as session:
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

    def deed_done(self, claim: OperationClaim, at: datetime) -> None:
        """Store that a claimed deed is done."""
        with self.write() as session:
            session.execute(update(TicketOperationRow).where(*_of(claim)).values(done_at=at, error=None))

    def deed_refused(self, claim: OperationClaim, error: str) -> None:
        """Store what the tracker said to a claimed deed; no effect once somebody else has claimed it."""
        with self.write() as session:
            mine = TicketOperationRow.claimed_at == claim.claimed_at
            session.execute(update(TicketOperationRow).where(*_of(claim), mine).values(error=error))

    def release_deed(self, claim: OperationClaim) -> None:
        """Give a claim back after a failure before which certainly nothing was done, at any time."""
        with self.write() as session:
            mine = TicketOperationRow.claimed_at == claim.claimed_at
            session.execute(
                delete(TicketOperationRow).where(*_of(claim), mine, TicketOperationRow.done_at.is_(None))
            )

    def deeds(self, fingerprint: str, cycle: int) -> list[OperationRecord]:
        """Return the deeds of one cycle of a debt, in the order of their first claim."""
        query = (
            select(TicketOperationRow)
            .where(TicketOperationRow.debt_fingerprint == fingerprint, TicketOperationRow.cycle == cycle)
            .order_by(TicketOperationRow.id)
        )
        with self.read() as session:
            return [
                OperationRecord(row.occasion, row.claimed_at, row.done_at, row.error)
                for row in session.scalars(query)
            ]

    def gate_runs_about(self, fingerprint: str) -> list[GateRun]:
        """Return what launch gates said in which a debt was named, oldest first."""
        query = (
            select(GateRunRow)
            .where(GateRunRow.result.contains(fingerprint, autoescape=True))
            .order_by(GateRunRow.at, GateRunRow.id)
        )
        with self.read() as session:
            return [
                GateRun(row.service, row.release, row.dag_id, row.run_id, row.verdict, row.at, row.result)
                for row in session.scalars(query)
            ]


def _of(claim: OperationClaim) -> tuple[ColumnElement[bool], ...]:
    return (
        TicketOperationRow.debt_fingerprint == claim.debt_fingerprint,
        TicketOperationRow.cycle == claim.cycle,
        TicketOperationRow.occasion == claim.occasion,
    )
