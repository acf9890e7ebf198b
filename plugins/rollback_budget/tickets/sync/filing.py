"""Filing debts: every debt gets one ticket, whatever is lost on the way.

The ticket's row exists before anything is sent. The task that claims it looks for a ticket of the debt and
adopts it, and only when there is none sends one request. When the answer is lost, it is not sent again until
the tracker has settled and a search has shown that the first request came to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.debt.state_machine import filed
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Claim, Debt, Ticket, TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.tickets.base import TicketRef, Tracker
from rollback_budget.tickets.sync.errors import Clock, SyncErrors, running_clock
from rollback_budget.tickets.ticket_context import context_of

#: Longer than all requests of one filing can take together.
LEASE = timedelta(minutes=5)


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
    """File every debt that has no ticket yet.

    :param now: the time at which this call begins (aware).
    :param owner: who files, for people to read.
    :return: what this call filed.
    :raises TicketError: at the end, when a debt could not be filed or must wait: try again later. What was
        filed stays filed.
    :raises LedgerUnavailableError: a further call does the rest.
    """
    clock = running_clock(now)
    filed: list[Filed] = []
    errors = SyncErrors("filed")
    for debt in ledger.debts.unfiled():
        with errors.about(debt):
            ticket = _file(ledger, tracker, debt, owner, clock, lease)
            filed += [ticket] if ticket is not None else []
        if errors.limited:
            break
    errors.raise_all()
    return filed


def _file(
    ledger: Ledger, tracker: Tracker, debt: Debt, owner: str, clock: Clock, lease: timedelta
) -> Filed | None:
    claim = ledger.tickets.claim(debt.fingerprint, owner, clock(), lease=lease, settle=tracker.settle)
    if isinstance(claim, Ticket):
        _refuse(claim, tracker, clock())
        return None
    try:
        found = tracker.find(debt)
    except TicketError as error:
        ledger.tickets.release(claim, str(error), unknown_since=claim.unknown_since)
        raise
    ref = found.ref if found is not None else _create(ledger, tracker, debt, claim, clock)
    holds = ledger.tickets.record_filed(
        debt.fingerprint,
        tracker.name,
        ref.key,
        ref.url,
        clock(),
        occurrences=found.reported if found is not None else debt.occurrences,
        rule=filed,
        issue_id=ref.issue_id,
    )
    if holds.key != ref.key:
        raise TicketError(
            f"{holds.key} and {ref.key} were both made for it, because the sender of one was held up for"
            f" longer than its lease. {holds.key} holds, and {ref.key} will be linked as its duplicate"
        )
    return Filed(debt.fingerprint, ref.key, ref.url, adopted=found is not None)


def _create(ledger: Ledger, tracker: Tracker, debt: Debt, claim: Claim, clock: Clock) -> TicketRef:
    try:
        return tracker.create(context_of(ledger, debt))
    except TicketError as error:
        ledger.tickets.release(claim, str(error), unknown_since=clock() if error.ambiguous else None)
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
