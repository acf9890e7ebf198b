"""The plan: what is still to be done on a debt's ticket, from what the ledger knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from rollback_budget.charts import can_draw
from rollback_budget.ledger.debt_views import ClosedBy, Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.tickets.base import Comment, CommentingTracker, TicketRef, TicketSnapshot, TicketStatus
from rollback_budget.tickets.sync import comments as notes
from rollback_budget.tickets.sync.attachments import chart_png, file_name, series_csv, watched
from rollback_budget.tickets.ticket_context import TicketContext

CSV, PNG, JSON = "text/csv", "image/png", "application/json"


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """Something to do on a ticket once.

    :param occasion: what makes it one and the same operation, at most 100 characters.
    :param says: what it is, as it continues "RB-7: ".
    :param do: does it.
    :param is_done: looks whether it was done, when an answer was lost.
    :param closed_by: who closed the ticket, where it closes it or answers a closing.
    """

    occasion: str
    says: str
    do: Callable[[], None]
    is_done: Callable[[], bool]
    closed_by: ClosedBy | None = None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What is to be done on one ticket.

    :param now: the time at which it is made.
    :param done: occasions of operations that are done in this cycle of the debt.
    :param known: occasions of operations that are done, under way, or were refused.
    :param reported: the number of occurrences that the ticket has spoken of already.
    :param closings: how often we closed the ticket in this cycle of the debt.
    """

    ledger: Ledger
    tracker: CommentingTracker
    context: TicketContext
    snapshot: TicketSnapshot
    reported: int
    now: datetime
    done: frozenset[str]
    known: frozenset[str]
    closings: int

    def operations(self) -> Iterator[PlannedOperation]:
        """Yield what is to be done, in the order in which people should read it."""
        for operation in self._all():
            if operation.occasion not in self.done:
                yield operation

    def _all(self) -> Iterator[PlannedOperation]:
        debt = self.context.debt
        for logged in reversed(self.context.breaches):
            yield from self._link(logged)
            yield from self._files(logged)
        reopening = self._reopening(debt)
        if reopening is not None:
            yield reopening
        if debt.occurrences > self.reported:
            yield self._say(notes.recurred(self.context, self.reported), "said that it was breached again")
        for event in self.context.events:
            if event.kind in notes.REPORTED:
                yield self._say(notes.happened(event), f"said that it was {event.kind.value}")
        if debt.is_owed:
            yield from self._priority()
        for gate in self.context.gates:
            if gate.verdict != "pass":
                yield self._say(notes.gated(gate), "said what the launch gate did")
        yield from self._payment(debt)
        by_hand = debt.is_owed and self.snapshot.status is TicketStatus.DONE and reopening is None
        if by_hand:
            note = notes.closed_by_hand(debt, self.snapshot.closing)
            answer = self._say(note, "answered that closing it does not pay")
            yield replace(answer, closed_by=ClosedBy.PERSON)

    def _link(self, logged: LoggedBreach) -> Iterator[PlannedOperation]:
        url = self.tracker.link_of(logged.key)
        if url is None:
            return
        name = notes.digest(f"{logged.key.dag_id}\n{logged.key.run_id}")
        link = partial(
            self.tracker.link, self._ref, f"rollback-budget-run-{name}", url, f"DAG run {logged.key}"
        )
        # The same link again is the same link.
        yield PlannedOperation(f"link {name}", "linked the DAG run", link, lambda: False)

    def _files(self, logged: LoggedBreach) -> Iterator[PlannedOperation]:
        chart, series = f"chart {logged.fingerprint[:16]}", f"series {logged.fingerprint[:16]}"
        wanted = {series, chart} if can_draw() else {series}
        if wanted <= self.done:
            return
        seen = watched(self.ledger, logged, self.now)
        if seen is None:
            return
        yield self._attach(series, file_name(logged, ".csv"), partial(series_csv, seen), CSV)
        if chart in wanted:
            yield self._attach(chart, file_name(logged, ".png"), partial(chart_png, seen), PNG)

    def _priority(self) -> Iterator[PlannedOperation]:
        wanted = self.tracker.wanted_priority(self.context)
        if wanted is None or wanted == self.snapshot.priority:
            return
        # Once: a user who lowers it afterwards has a reason.
        yield PlannedOperation(
            f"priority {notes.digest(wanted)}",
            f"raised the priority to {wanted}, unless it was as high",
            partial(self.tracker.raise_priority, self._ref, wanted),
            lambda: False,
        )

    def _payment(self, debt: Debt) -> Iterator[PlannedOperation]:
        accepted = [proof for proof in self.context.proofs if proof.accepted]
        for proof in accepted:
            file = notes.proof_file(proof)
            occasion = f"proof file {proof.digest[:16]}"
            yield self._attach(occasion, file, proof.proof.encode, JSON)
            yield self._say(notes.proven(proof, debt), "left the proof")
        if debt.is_owed:
            return
        if debt.state is DebtState.DUPLICATE and debt.duplicate_of is not None:
            yield from self._link_to_original(debt.duplicate_of)
        at = debt.paid_at
        if at is not None and not accepted:
            yield self._say(notes.paid(debt, at), "said that it is paid")
        yield PlannedOperation(
            f"closed {'as a duplicate' if at is None else notes.stamp(at)}",
            "closed it",
            partial(self.tracker.close, self._ref, self.context.fields.close_with),
            self._is_closed,
            ClosedBy.ROLLBACK_BUDGET,
        )

    def _link_to_original(self, fingerprint: str) -> Iterator[PlannedOperation]:
        original = self.ledger.debts.get(fingerprint)
        ticket = None if original is None else original.ticket
        if ticket is None or ticket.key is None or ticket.tracker != self.tracker.name:
            return
        yield duplicate_operation(
            self.tracker, self._ref, TicketRef(ticket.key, ticket.url, ticket.issue_id), "was linked"
        )

    def _reopening(self, debt: Debt) -> PlannedOperation | None:
        """Return what opens a ticket again that we closed, when its debt came back."""
        occasion = f"reopened {self.closings}"
        if not (debt.is_owed and self.closings and self.snapshot.status is TicketStatus.DONE):
            return None
        if occasion in self.known:
            # It was opened and a user closed it, or it cannot be opened: that is answered instead.
            return None
        return PlannedOperation(
            occasion,
            "opened it again",
            partial(self.tracker.reopen, self._ref),
            lambda: self.tracker.see(self._ref).status is not TicketStatus.DONE,
        )

    def _say(self, note: Comment, says: str) -> PlannedOperation:
        return PlannedOperation(
            occasion_of(note),
            says,
            partial(self.tracker.comment, self._ref, note),
            partial(self.tracker.has_comment, self._ref, note),
        )

    def _attach(
        self, occasion: str, name: str, make: Callable[[], bytes], media_type: str
    ) -> PlannedOperation:
        return PlannedOperation(
            occasion,
            f"attached {name}",
            lambda: self.tracker.attach(self._ref, name, make(), media_type),
            partial(self.tracker.has_attachment, self._ref, name),
        )

    def _is_closed(self) -> bool:
        return self.tracker.see(self._ref).status is TicketStatus.DONE

    @property
    def _ref(self) -> TicketRef:
        return self.snapshot.ref


def duplicate_operation(
    tracker: CommentingTracker, duplicate: TicketRef, original: TicketRef, says: str
) -> PlannedOperation:
    """Return what says of one ticket that it duplicates another."""
    return PlannedOperation(
        f"duplicate {notes.digest(duplicate.issue_id or duplicate.key)}",
        f"{duplicate.key} {says} as a duplicate of {original.key}",
        partial(tracker.link_duplicate, duplicate, original),
        partial(tracker.has_duplicate_link, duplicate, original),
    )


def occasion_of(note: Comment) -> str:
    """Return the occasion that a note's marker names."""
    return note.marker.removeprefix("rollback-budget: ").removesuffix(".")
