"""Synchronisation: what the ledger knows of a debt is written on its ticket, each thing once.

Every operation is claimed in the ledger before it is sent. When its answer is lost, it is not sent again
before a look at the ticket has shown that it did not arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import ClosedBy, Debt
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.tickets.base import (
    CommentingTracker,
    RewritingTracker,
    TicketRef,
    TicketSnapshot,
    TicketStatus,
    Tracker,
)
from rollback_budget.tickets.sync import comments as notes
from rollback_budget.tickets.sync.errors import Clock, SyncErrors, running_clock
from rollback_budget.tickets.sync.sync_plan import PlannedOperation, SyncPlan, duplicate_operation
from rollback_budget.tickets.ticket_context import context_of

#: A ticket that looks as it did is written down again this much later.
SEEN_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SyncAction:
    """Something that this call did on a ticket, or saw there."""

    debt_fingerprint: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what} (debt {self.debt_fingerprint[:16]})"


def sync_tickets(ledger: Ledger, tracker: Tracker, now: datetime) -> list[SyncAction]:
    """Bring every ticket up to date with its debt, and find and link tickets that were made twice.

    In Jira: links, charts and series of breaches, recurrences, escalations and waivers, what launch gates
    said, proofs, payment, and an answer to a user who closes a ticket by hand. In the local backlog the file
    is written anew.

    :param now: the time at which this call begins (aware).
    :return: what was done.
    :raises TicketError: at the end, when something could not be done or must wait: try again later. What was
        done stays done.
    :raises LedgerUnavailableError: a further call does the rest.
    """
    if isinstance(tracker, RewritingTracker):
        return _rewrite(ledger, tracker, now)
    if isinstance(tracker, CommentingTracker):
        return _TicketSync(ledger, tracker, running_clock(now)).run()
    raise TypeError(f"{tracker!r} can neither be rewritten nor commented on")


def _rewrite(ledger: Ledger, tracker: RewritingTracker, now: datetime) -> list[SyncAction]:
    actions: list[SyncAction] = []
    errors = SyncErrors("updated on their tickets")
    for debt in ledger.debts.with_ticket_in(tracker.name):
        with errors.about(debt):
            ref = _ref_of(debt)
            if tracker.rewrite(ref, context_of(ledger, debt)):
                actions.append(SyncAction(debt.fingerprint, ref.key, "written anew"))
            was_closed = debt.ticket is not None and debt.ticket.status == TicketStatus.DONE
            if was_closed is debt.is_owed:
                status = TicketStatus.NEW if debt.is_owed else TicketStatus.DONE
                ledger.tickets.record_seen(
                    debt.fingerprint, status, now, key=ref.key, url=ref.url, issue_id=None
                )
                actions.append(
                    SyncAction(debt.fingerprint, ref.key, "reopened" if debt.is_owed else "closed")
                )
            ledger.tickets.record_occurrences(debt.fingerprint, debt.occurrences)
    errors.raise_all()
    return actions


class _TicketSync:
    """One round over all tickets of a tracker."""

    def __init__(self, ledger: Ledger, tracker: CommentingTracker, clock: Clock) -> None:
        self._ledger = ledger
        self._tracker = tracker
        self._clock = clock
        self._actions: list[SyncAction] = []

    def run(self) -> list[SyncAction]:
        debts = self._ledger.debts.with_ticket_in(self._tracker.name)
        if not debts:
            return []
        known = [debt.ticket.issue_id for debt in debts if debt.ticket and debt.ticket.issue_id]
        # The newest are the ones that a search may not have seen yet.
        open_now = self._tracker.open_tickets(known[-50:])
        errors = SyncErrors("updated on their tickets")
        for debt in debts:
            with errors.about(debt):
                self._sync(debt, open_now)
            if errors.limited:
                break
        else:
            self._link_duplicates(open_now, errors)
        errors.raise_all()
        return self._actions

    def _sync(self, debt: Debt, open_now: Mapping[str, TicketSnapshot]) -> None:
        ref = _ref_of(debt)
        assert debt.ticket is not None
        listed = _listed(ref, open_now)
        over = not debt.is_owed and debt.ticket.status in (TicketStatus.DONE, TicketStatus.GONE)
        # The ticket of a settled debt is not asked for once it is closed.
        remembered = (
            TicketSnapshot(ref, TicketStatus(debt.ticket.status)) if over and debt.ticket.status else None
        )
        snapshot = listed or remembered or self._see(debt, ref)
        if snapshot.status is TicketStatus.GONE:
            return
        if listed is not None:
            self._note_snapshot(debt, snapshot)
        plan = self._plan(debt, snapshot)
        operation = next(plan.operations(), None)
        if operation is not None and (listed is not None or remembered is not None):
            # Before anything is done, look at the ticket as it is and not as a search or the ledger has it.
            snapshot = self._see(debt, ref)
            if snapshot.status is TicketStatus.GONE:
                return
            plan = self._plan(debt, snapshot)
        self._carry_out(debt, plan)

    def _plan(self, debt: Debt, snapshot: TicketSnapshot) -> SyncPlan:
        assert debt.ticket is not None
        records = self._ledger.ticket_operations.of(debt.fingerprint, debt.cycle)
        return SyncPlan(
            ledger=self._ledger,
            tracker=self._tracker,
            context=context_of(self._ledger, debt),
            snapshot=snapshot,
            reported=debt.ticket.reported_occurrences,
            now=self._clock(),
            done=frozenset(one.occasion for one in records if one.done_at is not None),
            known=frozenset(one.occasion for one in records),
            closings=sum(
                one.closed_by is ClosedBy.ROLLBACK_BUDGET and one.done_at is not None for one in records
            ),
        )

    def _carry_out(self, debt: Debt, plan: SyncPlan) -> None:
        """Do every operation; one that fails does not stop the others, unless the tracker is rate-limited."""
        first: TicketError | None = None
        for operation in plan.operations():
            try:
                self._once(debt, plan.snapshot.ref.key, operation)
            except TicketError as error:
                if error.retry_after is not None and not error.ambiguous:
                    raise
                first = first or error
        if notes.occasion_of_recurrence(debt) in self._done(debt):
            self._ledger.tickets.record_occurrences(debt.fingerprint, debt.occurrences)
        if first is not None:
            raise first

    def _done(self, debt: Debt) -> set[str]:
        records = self._ledger.ticket_operations.of(debt.fingerprint, debt.cycle)
        return {one.occasion for one in records if one.done_at is not None}

    def _once(self, debt: Debt, key: str, operation: PlannedOperation) -> None:
        """Do an operation unless it is done, under way or was refused lately."""
        claim = self._ledger.ticket_operations.claim(
            debt.fingerprint, debt.cycle, operation.occasion, self._clock(), closed_by=operation.closed_by
        )
        if claim is None:
            return
        try:
            if not (claim.again and operation.is_done()):
                operation.do()
        except TicketError as error:
            if error.refused:
                self._ledger.ticket_operations.refused(claim, str(error))
            elif not error.ambiguous and not claim.again:
                self._ledger.ticket_operations.release(claim)
            # Else it may have been done, now or earlier: the claim stays until a look can be trusted.
            raise
        self._ledger.ticket_operations.done(claim, self._clock())
        self._actions.append(SyncAction(debt.fingerprint, key, operation.says))

    def _see(self, debt: Debt, ref: TicketRef) -> TicketSnapshot:
        snapshot = self._tracker.see(ref)
        self._note_snapshot(debt, snapshot)
        return snapshot

    def _note_snapshot(self, debt: Debt, snapshot: TicketSnapshot) -> None:
        ticket = debt.ticket
        assert ticket is not None
        now, seen = self._clock(), snapshot.ref
        same = (ticket.status, ticket.key, ticket.issue_id) == (snapshot.status, seen.key, seen.issue_id)
        if same and ticket.seen_at is not None and now - ticket.seen_at < SEEN_FOR:
            return
        self._ledger.tickets.record_seen(
            debt.fingerprint, snapshot.status, now, key=seen.key, url=seen.url, issue_id=seen.issue_id
        )
        if seen.key != ticket.key:
            self._actions.append(SyncAction(debt.fingerprint, seen.key, f"was moved, it was {ticket.key}"))
        if snapshot.status is TicketStatus.GONE and ticket.status != TicketStatus.GONE:
            what = "is gone: deleted, or moved to where this user may not look. The debt stays owed"
            self._actions.append(SyncAction(debt.fingerprint, seen.key, what))

    def _link_duplicates(self, open_now: Mapping[str, TicketSnapshot], errors: SyncErrors) -> None:
        """Find tickets that slipped through: ours by label and identity, but not the one the ledger holds."""
        # Read again: a ticket may have got its id, or another key, in this round.
        by_label = {debt.label: debt for debt in self._ledger.debts.with_ticket_in(self._tracker.name)}
        held = {_ref_of(debt).issue_id for debt in by_label.values()}
        strangers = [one for issue_id, one in open_now.items() if issue_id not in held]
        for label in dict.fromkeys(label for one in strangers for label in one.labels if label in by_label):
            debt = by_label[label]
            original = _ref_of(debt)
            with errors.about(debt):
                for duplicate in self._tracker.duplicates(debt, original):
                    operation = duplicate_operation(
                        self._tracker, duplicate, original, "slipped through and was linked"
                    )
                    if operation.occasion not in self._done(debt):
                        self._once(debt, original.key, operation)


def _listed(ref: TicketRef, open_now: Mapping[str, TicketSnapshot]) -> TicketSnapshot | None:
    if ref.issue_id is not None:
        return open_now.get(ref.issue_id)
    return next((one for one in open_now.values() if one.ref.key == ref.key), None)


def _ref_of(debt: Debt) -> TicketRef:
    ticket = debt.ticket
    assert ticket is not None
    assert ticket.key is not None
    return TicketRef(ticket.key, ticket.url, ticket.issue_id)
