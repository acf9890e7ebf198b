"""Tickets: one per debt, filed by the caller that holds the lease.

A ticket is ``pending`` until it is claimed, ``posting`` while a claim's lease runs, ``filed`` once its
key is known, and ``unknown`` when a request was sent whose answer never came, or whose sender vanished. An
unknown ticket may be claimed again only after the tracker has had time to settle, so that a search finds
what was sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete, update

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_events import append_event
from rollback_budget.ledger.debt_models import TicketOperationRow, TicketRow
from rollback_budget.ledger.debt_rows import require_debt, store_debt, ticket_view
from rollback_budget.ledger.debt_views import Claim, Debt, DebtEvent, DebtEventKind, Ticket, TicketState

#: Says what a debt becomes when its ticket is filed.
FileDebt = Callable[[Debt], Debt]
#: The status of a ticket that its tracker knows nothing of any more.
GONE = "gone"


class Tickets(Repository):
    """The tickets of the debts in the ledger."""

    def claim(
        self, fingerprint: str, owner: str, now: datetime, *, lease: timedelta, settle: timedelta
    ) -> Claim | Ticket:
        """Claim the right to file a debt's ticket.

        :param owner: who asks, for people to read; every claim is unique all the same.
        :param lease: how long the claim holds; a sender that has not finished by then counts as lost.
        :param settle: how long after a lost answer a search can be trusted.
        :return: the claim, or the ticket as it stands when it cannot be claimed now.
        """
        with self._database.write() as session:
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

    def release(self, claim: Claim, error: str, *, unknown_since: datetime | None) -> None:
        """Give a claim back after a failure; no effect once another caller has the lease.

        :param unknown_since: when the answer was lost; None when it is certain that no ticket was made.
        """
        state = TicketState.PENDING if unknown_since is None else TicketState.UNKNOWN
        with self._database.write() as session:
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

    def record_filed(
        self,
        fingerprint: str,
        tracker: str,
        key: str,
        url: str | None,
        at: datetime,
        *,
        occurrences: int,
        rule: FileDebt,
        issue_id: str | None = None,
    ) -> Ticket:
        """Store that the ticket exists, and that its debt is filed; the first key holds.

        :param issue_id: the tracker's own id, which stays when the ticket moves to another project.
        :param occurrences: of the debt, that the ticket speaks of.
        :param rule: says what its debt becomes.
        :return: the ticket that holds; another key than ``key`` means that two were made.
        """
        with self._database.write() as session:
            row = session.get_one(TicketRow, fingerprint, with_for_update=True)
            if row.state != TicketState.FILED.value:
                row.state = TicketState.FILED.value
                row.tracker, row.key, row.url, row.filed_at, row.told = tracker, key, url, at, occurrences
                row.issue_id = issue_id
                row.lease_token = row.lease_until = row.unknown_since = row.last_error = None
                debt = require_debt(self._database, session, fingerprint)
                store_debt(session, rule(debt))
                filed = DebtEventKind.FILED
                append_event(session, DebtEvent(fingerprint, debt.cycle, filed, at, None, None, url or key))
            return ticket_view(row)

    def record_seen(
        self, fingerprint: str, status: str, at: datetime, *, key: str, url: str | None, issue_id: str | None
    ) -> None:
        """Store how a ticket looked: the category of its status, and its key, which changes when it moves."""
        with self._database.write() as session:
            session.execute(
                update(TicketRow)
                .where(
                    TicketRow.debt_fingerprint == fingerprint,
                    TicketRow.state == TicketState.FILED.value,
                    TicketRow.seen_at.is_(None) | (TicketRow.seen_at <= at),
                )
                .values(status=status, seen_at=at, key=key, url=url, issue_id=issue_id)
            )

    def refile(self, fingerprint: str) -> bool:
        """Let a new ticket be filed in the place of one that is gone; False when it is not gone."""
        with self._database.write() as session:
            row = session.get(TicketRow, fingerprint, with_for_update=True)
            if row is None or row.status != GONE:
                return False
            session.delete(row)
            # These were done to the ticket that is gone.
            session.execute(
                delete(TicketOperationRow).where(TicketOperationRow.debt_fingerprint == fingerprint)
            )
            return True

    def record_occurrences(self, fingerprint: str, occurrences: int) -> None:
        """Store that a ticket now speaks of so many occurrences of its debt."""
        with self._database.write() as session:
            session.execute(
                update(TicketRow)
                .where(TicketRow.debt_fingerprint == fingerprint, TicketRow.told < occurrences)
                .values(told=occurrences)
            )


def _expire_lease(row: TicketRow, now: datetime) -> None:
    """Treat a lost sender as a lost answer: it may have sent its request at the last moment."""
    if row.state == TicketState.POSTING.value and row.lease_until is not None and row.lease_until <= now:
        row.state = TicketState.UNKNOWN.value
        row.unknown_since = row.lease_until
        row.last_error = f"{row.lease_token} did not come back before its lease ended"
        row.lease_token = row.lease_until = None


def _claimable(row: TicketRow, now: datetime, settle: timedelta) -> bool:
    if row.state == TicketState.UNKNOWN.value:
        return row.unknown_since is None or row.unknown_since + settle <= now
    return row.state == TicketState.PENDING.value
