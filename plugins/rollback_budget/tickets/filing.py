"""Filing debts: every debt gets one ticket, whatever is lost on the way.

The ticket's row exists before anything is sent. Whoever claims it looks for a ticket with the debt's label
and adopts it, and only when there is none sends one request. When the answer is lost, nobody sends again
until the tracker has settled and a search has shown that the first request came to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.errors import TicketError
from rollback_budget.ledger.debt_records import Claim, Debt, Ticket, TicketState
from rollback_budget.ledger.store import Ledger
from rollback_budget.tickets.tracker import TicketRef, Tracker

#: Longer than all requests of one filing can take together.
LEASE = timedelta(minutes=5)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Filed:
    """A ticket that this call filed.

    :param adopted: it was there already, left by a request whose answer was lost.
    """

    debt_fingerprint: str
    key: str
    url: str | None
    adopted: bool

    def __str__(self) -> str:
        how = "found" if self.adopted else "created"
        return f"{self.url or self.key} ({how}) for debt {self.debt_fingerprint[:16]}"


def file_debts(
    ledger: Ledger, tracker: Tracker, now: datetime, owner: str, *, lease: timedelta = LEASE
) -> list[Filed]:
    """File every debt that has no ticket yet, and bring the tickets of recurring debts up to date.

    :param now: the time at which this call begins (aware).
    :param owner: who files, for people to read.
    :return: what this call filed.
    :raises TicketError: at the end, when a debt could not be filed or must wait: try again later. What was
        filed stays filed.
    :raises LedgerError: the ledger is out of reach.
    """
    clock = _clock(now)
    filed: list[Filed] = []
    troubles: list[TicketError] = []
    for debt in ledger.unfiled_debts():
        try:
            ticket = _file(ledger, tracker, debt, owner, clock, lease)
        except TicketError as error:
            troubles.append(_about(debt, error))
            if error.retry_after is not None and not error.ambiguous:
                # The tracker asked to be left alone.
                break
        else:
            filed += [ticket] if ticket is not None else []
    for debt in ledger.outdated_tickets(tracker.name):
        try:
            _refresh(ledger, tracker, debt)
        except TicketError as error:
            troubles.append(_about(debt, error))
    if troubles:
        raise _all(troubles)
    return filed


def _file(
    ledger: Ledger, tracker: Tracker, debt: Debt, owner: str, clock: Clock, lease: timedelta
) -> Filed | None:
    claim = ledger.claim_ticket(debt.fingerprint, owner, clock(), lease=lease, settle=tracker.settle)
    if isinstance(claim, Ticket):
        _refuse(claim, tracker, clock())
        return None
    try:
        found = tracker.find(debt)
    except TicketError as error:
        ledger.release_ticket(claim, str(error), unknown_since=claim.unknown_since)
        raise
    ref = found or _create(ledger, tracker, debt, claim, clock)
    holds = ledger.ticket_filed(
        debt.fingerprint,
        tracker.name,
        ref.key,
        ref.url,
        clock(),
        told=0 if found else debt.occurrences,
    )
    if holds.key != ref.key:
        raise TicketError(
            f"{holds.key} and {ref.key} were both made for it, because the sender of one was held up for"
            f" longer than its lease. Close {ref.key} as a duplicate"
        )
    return Filed(debt.fingerprint, ref.key, ref.url, adopted=found is not None)


def _create(ledger: Ledger, tracker: Tracker, debt: Debt, claim: Claim, clock: Clock) -> TicketRef:
    breaches = ledger.debt_breaches(debt.fingerprint)
    try:
        return tracker.create(debt, breaches)
    except TicketError as error:
        ledger.release_ticket(claim, str(error), unknown_since=clock() if error.ambiguous else None)
        raise


def _refuse(ticket: Ticket, tracker: Tracker, now: datetime) -> None:
    """Say why a ticket cannot be filed now; there is nothing to say when another task has just filed it."""
    if ticket.state is TicketState.UNKNOWN and ticket.unknown_since is not None:
        ready = ticket.unknown_since + tracker.settle
        raise TicketError(
            f"the answer to an earlier request was lost; it is looked for from {ready:%H:%M:%S} UTC on",
            ambiguous=True,
            retry_after=ready - now,
        )
    if ticket.state is TicketState.POSTING and ticket.lease_until is not None:
        raise TicketError("another task is filing it", ambiguous=True, retry_after=ticket.lease_until - now)


def _refresh(ledger: Ledger, tracker: Tracker, debt: Debt) -> None:
    assert debt.ticket is not None
    assert debt.ticket.key is not None
    ref = TicketRef(debt.ticket.key, debt.ticket.url)
    tracker.refresh(ref, debt, ledger.debt_breaches(debt.fingerprint))
    ledger.ticket_told(debt.fingerprint, debt.occurrences)


def _about(debt: Debt, error: TicketError) -> TicketError:
    return TicketError(
        f"debt {debt.fingerprint[:16]} ({debt.budget}): {error}",
        ambiguous=error.ambiguous,
        retry_after=error.retry_after,
    )


def _all(troubles: list[TicketError]) -> TicketError:
    waits = [trouble.retry_after for trouble in troubles if trouble.retry_after is not None]
    return TicketError(
        f"{len(troubles)} debt(s) could not be filed, they stay in the ledger:\n"
        + "\n".join(str(trouble) for trouble in troubles),
        ambiguous=any(trouble.ambiguous for trouble in troubles),
        retry_after=max(waits, default=None),
    )


def _clock(now: datetime) -> Clock:
    """Let time go on from ``now`` while requests take theirs; leases are measured by it."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
