"""Notes: what is said on a ticket after it was filed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, GateRun, ProofRecord
from rollback_budget.tickets.base import Comment
from rollback_budget.tickets.description import moment
from rollback_budget.tickets.ticket_context import TicketContext

#: Events that people should hear of on the ticket, and how a comment about each begins.
REPORTED = {
    DebtEventKind.ESCALATED: "This debt was escalated",
    DebtEventKind.WAIVED: "This debt was waived: releases may launch in spite of it",
    DebtEventKind.BYPASSED: "A launch went past the gate",
    DebtEventKind.DUPLICATE: "This debt is a duplicate and is paid with the other one",
}

_MISSING = {
    DebtState.DRAFTED: "a person's approval of the drafted eval cases (rollback-budget debt approve), then"
    " the proof",
    DebtState.APPROVED: "the proof: results of the breached release, where the cases fail, and of the"
    " candidate, where they pass (rollback-budget debt prove)",
    DebtState.PROVEN: "nothing but the payment: the proven cases must be part of the launch gate's data set",
}
_NO_CASE = (
    "an eval case that reproduces the failure, a person's approval of it, and the proof: it fails on the"
    " breached release and passes on the candidate (rollback-budget debt prove)"
)


def recurred(context: TicketContext, reported: int) -> Comment:
    """Say that the budget was breached again.

    :param reported: the number of occurrences that the ticket has spoken of already.
    """
    debt = context.debt
    new = context.breaches[: max(debt.occurrences - reported, 1)]
    times = "once" if debt.occurrences - reported == 1 else f"{debt.occurrences - reported} times"
    return _note(
        occasion_of_recurrence(debt),
        f"This budget was breached again, {times} since the last word here: {debt.occurrences} occurrences"
        f" by now. Due {moment(debt.due_at)}, severity {debt.severity.value}.",
        bullets=(
            f"{moment(one.breach.breached_at)}, {one.release} against {one.baseline} ({one.key}):"
            f" {one.breach.sentence}"
            for one in new
        ),
    )


def occasion_of_recurrence(debt: Debt) -> str:
    """Return what makes the word about a recurrence one and the same."""
    return f"recurred {debt.occurrences}"


def happened(event: DebtEvent) -> Comment:
    """Say what happened to the debt."""
    by = f", by {event.by}" if event.by else ""
    detail = f" {event.detail}" if event.detail else ""
    return _note(
        f"{event.kind.value} {stamp(event.at)}", f"{REPORTED[event.kind]} ({moment(event.at)}{by}).{detail}"
    )


def gated(gate: GateRun) -> Comment:
    """Say that a launch gate stopped, or asked, because of the debt."""
    did = "blocked" if gate.verdict == "block" else "asked the commander about"
    return _note(
        f"gate {digest(gate.release)} {gate.verdict}",
        f"The launch gate {did} {gate.release} of {gate.service}, also because of this debt"
        f" ({moment(gate.at)}, {gate.dag_id} {gate.run_id}).",
    )


def proven(proof: ProofRecord, debt: Debt) -> Comment:
    """Leave an accepted proof."""
    paid = " The debt is paid, and this ticket is closed with it." if debt.state is DebtState.PAID else ""
    return _note(
        f"proof {proof.digest[:16]}",
        f"Red-green proof, accepted ({moment(proof.at)}, by {proof.by}).{paid}",
        bullets=(
            f"red: the cases fail on {proof.breached_release}, which was breached",
            f"green: they pass on {proof.candidate_release}",
            f"digest {proof.digest}; the whole proof is attached as {proof_file(proof)}",
        ),
    )


def proof_file(proof: ProofRecord) -> str:
    """Return the name of a proof's file."""
    return f"proof-{proof.digest[:12]}.json"


def paid(debt: Debt, at: datetime) -> Comment:
    """Say that a debt is paid, where no proof says so already."""
    with_ = f" with debt {debt.duplicate_of[:16]}, of which it is a duplicate" if debt.duplicate_of else ""
    return _note(
        f"paid {stamp(at)}", f"This debt was paid{with_} ({moment(at)}). This ticket is closed with it."
    )


def closed_by_hand(debt: Debt, closing: str) -> Comment:
    """Answer a user who closed the ticket of a debt that is owed."""
    missing = _MISSING.get(debt.state, _NO_CASE)
    waived = ""
    if debt.waiver is not None:
        waived = f" It is waived until {moment(debt.waiver.until)}; a waiver does not pay either."
    return _note(
        f"closed by hand {digest(closing)}",
        "This ticket was closed, but closing it does not pay the debt, which stays owed"
        f" (due {moment(debt.due_at)}): the launch gate goes by the debt and not by this ticket.{waived}",
        f"Missing is {missing}.",
        "The ticket is left as it is. Until it is paid the debt is listed as"
        f" {debt.fingerprint[:16]} by rollback-budget debt list.",
    )


def stamp(at: datetime) -> str:
    """Return a time as a part of an occasion."""
    return f"{at:%Y%m%dT%H%M%S}"


def digest(text: str) -> str:
    """Return a short name of what is too long, or too free, to be a part of an occasion."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _note(occasion: str, *paragraphs: str, bullets: Iterable[str] = ()) -> Comment:
    # The full stop keeps "recurred 1" from being found in "recurred 12".
    return Comment(f"rollback-budget: {occasion}.", paragraphs, tuple(bullets))
