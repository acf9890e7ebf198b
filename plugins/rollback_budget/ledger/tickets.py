"""Tickets: one per debt, filed by whoever holds the lease.

A ticket is ``pending`` until somebody claims it, ``posting`` while a claim's lease runs, ``filed`` once its
key is known, and ``unknown`` when a request was sent whose answer never came, or whose sender vanished. An
unknown ticket may be claimed again only after the tracker has had time to settle, so that a search finds
what was sent.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.debt_models import DebtEventRow, DebtRow, TicketOperationRow, TicketRow
from rollback_budget.ledger.debt_views import Claim, Debt, DebtEventKind, DebtState, Ticket, TicketState
from rollback_budget.ledger.debts import Debts, ticket_view, view

#: The status of a ticket that its tracker knows nothing of any more.
GONE = "gone"


class Tickets(Debts):
    """The tickets of the ledger. Every method raises LedgerError."""

    def claim_ticket(
        self, fingerprint: str, owner: str, now: datetime, *, lease: timedelta, settle: timedelta
    ) -> Claim | Ticket:
        """Claim the right to file a debt's ticket.

        :param owner: who asks, for people to read; every claim is unique all the same.
        :param lease: how long the claim holds; whoever has not finished by then counts as vanished.
        :param settle: how long after a lost answer a search can be trusted.
        :return: the claim, or the ticket as it stands when it cannot be claimed now.
        """
        with self.write() as session:
            insert_once(
                session,
                TicketRow,
                {
                    "debt_fingerprint": fingerprint,
                    "state": TicketState.PENDING.value,
                    "attempts": 0,
                    "told": 0,
                },
            )
            row = session.get_one(TicketRow, fingerprint, with_for_update=True)
            _expire_lease(row, now)
            if not _claimable(row, now, settle):
                return ticket_view(row)
            claim = Claim(fingerprint, f"{owner} {uuid.uuid4()}", row.unknown_since)
            row.state = TicketState.POSTING.value
            row.lease_token = claim.token
            row.lease_until = now + lease
            row.attempts += 1
            return claim

    def release_ticket(self, claim: Claim, error: str, *, unknown_since: datetime | None) -> None:
        """Give a claim back after a failure; no effect when the lease is already somebody else's.

        :param unknown_since: when the answer was lost; None when it is certain that no ticket was made.
        """
        state = TicketState.PENDING if unknown_since is None else TicketState.UNKNOWN
        with self.write() as session:
            session.execute(
                update(TicketRow)
                .where(
                    TicketRow.debt_fingerprint == claim.debt_fingerprint,
                    TicketRow.lease_token == claim.token,
                    TicketRow.state != TicketState.FILED.value,
                )
                .values(
                    state=state.value,
                    unknown_since=unknown_since,
                    lease_token=None,
                    lease_until=None,
                    last_error=error,
                )
            )

    def ticket_filed(
        self,
        fingerprint: str,
        tracker: str,
        key: str,
        url: str | None,
        at: datetime,
        *,
        told: int,
        issue_id: str | None = None,
    ) -> Ticket:
        """Store that the ticket exists; the first key holds, whoever brings it.

        :param issue_id: the tracker's own id, which stays when the ticket moves to another project.
        :param told: the number of occurrences that the ticket speaks of.
        :return: the ticket that holds; another key than ``key`` means that two were made.
        """
        with self.write() as session:
            row = session.get_one(TicketRow, fingerprint, with_for_update=True)
            if row.state != TicketState.FILED.value:
                row.state = TicketState.FILED.value
                row.tracker, row.key, row.url, row.filed_at, row.told = tracker, key, url, at, told
                row.issue_id = issue_id
                row.lease_token = row.lease_until = row.unknown_since = row.last_error = None
                _debt_filed(session, fingerprint, at, url or key)
            return ticket_view(row)

    def ticketed_debts(self, tracker: str) -> list[Debt]:
        """Return the debts that have a ticket in ``tracker``, the oldest ticket first."""
        query = (
            select(DebtRow, TicketRow)
            .join(TicketRow, TicketRow.debt_fingerprint == DebtRow.fingerprint)
            .where(TicketRow.tracker == tracker, TicketRow.state == TicketState.FILED.value)
            .order_by(TicketRow.filed_at, DebtRow.fingerprint)
        )
        with self.read() as session:
            return [view(row, ticket) for row, ticket in session.execute(query)]

    def ticket_seen(
        self, fingerprint: str, status: str, at: datetime, *, key: str, url: str | None, issue_id: str | None
    ) -> None:
        """Store how a ticket looked: the category of its status, and its key, which changes when it moves."""
        with self.write() as session:
            session.execute(
                update(TicketRow)
                .where(
                    TicketRow.debt_fingerprint == fingerprint,
                    TicketRow.state == TicketState.FILED.value,
                    TicketRow.seen_at.is_(None) | (TicketRow.seen_at <= at),
                )
                .values(status=status, seen_at=at, key=key, url=url, issue_id=issue_id)
            )

    def refile_ticket(self, fingerprint: str) -> bool:
        """Let a new ticket be filed in the place of one that is gone; False when it is not gone."""
        with self.write() as session:
            row = session.get(TicketRow, fingerprint, with_for_update=True)
            if row is None or row.status != GONE:
                return False
            session.delete(row)
            # The deeds were done to the ticket that is gone.
            session.execute(
                delete(TicketOperationRow).where(TicketOperationRow.debt_fingerprint == fingerprint)
            )
            return True

    def ticket_told(self, fingerprint: str, told: int) -> None:
        """Store that a ticket now speaks of ``told`` occurrences."""
        with self.write() as session:
            session.execute(
                update(TicketRow)
                .where(TicketRow.debt_fingerprint == fingerprint, TicketRow.told < told)
                .values(told=told)
            )


def _expire_lease(row: TicketRow, now: datetime) -> None:
    """Treat a vanished sender as a lost answer: it may have sent its request at the last moment."""
    if row.state == TicketState.POSTING.value and row.lease_until is not None and row.lease_until <= now:
        row.state = TicketState.UNKNOWN.value
        row.unknown_since = row.lease_until
        row.last_error = f"{row.lease_token} did not come back before its lease ended"
        row.lease_token = row.lease_until = None


def _claimable(row: TicketRow, now: datetime, settle: timedelta) -> bool:
    if row.state == TicketState.UNKNOWN.value:
        return row.unknown_since is None or row.unknown_since + settle <= now
    return row.state == TicketState.PENDING.value


def _debt_filed(session: Session, fingerprint: str, at: datetime, ticket: str) -> None:
    """Let the debt step from detected (or reopened) to filed; one that went on without a ticket stays."""
    row = session.get_one(DebtRow, fingerprint, with_for_update=True)
    if row.state in (DebtState.DETECTED.value, DebtState.REOPENED.value):
        row.state = DebtState.FILED.value
    session.add(
        DebtEventRow(
            debt_fingerprint=fingerprint,
            cycle=row.cycle,
            kind=DebtEventKind.FILED.value,
            at=at,
            detail=ticket,
        )
    )
