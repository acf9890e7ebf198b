"""The states of an eval debt, and which may follow which; a payment needs a proof.

A breach makes a debt ``detected``. From there it goes forward only, and steps may be left out (there is no
tracker, or the cases were there already), except that a debt is paid from ``proven`` alone. A settled debt
comes back as ``reopened``, or, long after it was paid, as ``detected`` in a new cycle. A waiver is no state
of its own: the debt stays where it is and becomes owed again by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rollback_budget.exceptions import TransitionNotAllowedError
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, ProofRecord, Waiver
from rollback_budget.text import plural

#: From the breach to the payment.
STEPS = (
    DebtState.DETECTED,
    DebtState.FILED,
    DebtState.DRAFTED,
    DebtState.APPROVED,
    DebtState.PROVEN,
    DebtState.PAID,
)
#: Which states may follow which.
FOLLOWS: Mapping[DebtState, frozenset[DebtState]] = {
    DebtState.DETECTED: frozenset({*STEPS[1:5], DebtState.DUPLICATE}),
    DebtState.FILED: frozenset({*STEPS[2:5], DebtState.DUPLICATE}),
    DebtState.DRAFTED: frozenset({*STEPS[3:5], DebtState.DUPLICATE}),
    DebtState.APPROVED: frozenset({DebtState.PROVEN, DebtState.DUPLICATE}),
    DebtState.PROVEN: frozenset({DebtState.PAID, DebtState.DUPLICATE}),
    DebtState.PAID: frozenset({DebtState.REOPENED, DebtState.DETECTED}),
    # Of another debt; or it breached after it was paid with the other one.
    DebtState.DUPLICATE: frozenset({DebtState.DUPLICATE, DebtState.REOPENED, DebtState.DETECTED}),
    # Like a detected debt: nothing that was done before counts.
    DebtState.REOPENED: frozenset({*STEPS[1:5], DebtState.DUPLICATE}),
}
#: A debt in one of these has no cases yet: drafting is next.
UNDRAFTED = (DebtState.DETECTED, DebtState.FILED, DebtState.REOPENED)
#: A waiver that never ends would be a payment without a proof.
LONGEST_WAIVER = timedelta(days=90)

_RANK = {**{state: rank for rank, state in enumerate(STEPS)}, DebtState.REOPENED: 0}


def moved(debt: Debt, to: DebtState, **changes: Any) -> Debt:
    """Return ``debt`` in the state ``to``, with other fields changed. Raises TransitionNotAllowedError."""
    if to not in FOLLOWS[debt.state]:
        raise TransitionNotAllowedError(f"{_name(debt)} is {debt.state.value}; it cannot become {to.value}")
    return replace(debt, state=to, **changes)


def filed(debt: Debt) -> Debt:
    """Return ``debt`` as it is once its ticket exists; one that went on without a ticket stays as it is."""
    return moved(debt, DebtState.FILED) if DebtState.FILED in FOLLOWS[debt.state] else debt


def advanced(debt: Debt, to: DebtState, at: datetime, *, proven: bool) -> Debt | None:
    """Return ``debt`` moved forward to ``to``; None when it is there already, or further.

    :param proven: whether a proof was accepted since the debt was detected, or last reopened.
    :raises TransitionNotAllowedError: there is no such step, or not for this debt.
    """
    name = _name(debt)
    if to not in STEPS[1:]:
        steps = ", ".join(state.value for state in STEPS[1:])
        raise TransitionNotAllowedError(
            f"{name}: a debt does not move to {to.value!r} this way; its steps are {steps}"
        )
    if debt.state is DebtState.DUPLICATE:
        raise TransitionNotAllowedError(
            f"{name} is a duplicate and is paid with debt {(debt.duplicate_of or '')[:16]}; work on that one"
        )
    if _RANK[to] <= _RANK[debt.state]:
        return None
    if to in (DebtState.PROVEN, DebtState.PAID) and not proven:
        raise TransitionNotAllowedError(
            f"{name} has no accepted red-green proof{_since_reopened(debt)}, so it cannot be {to.value}."
            f" Run: rollback-budget debt prove {debt.fingerprint[:16]}"
        )
    if to not in FOLLOWS[debt.state]:
        raise TransitionNotAllowedError(f"{name} is {debt.state.value}; it is paid once it is proven")
    return moved(debt, to, paid_at=at if to is DebtState.PAID else None)


def waived(debt: Debt, waiver: Waiver, at: datetime) -> Debt | None:
    """Return ``debt`` with a waiver, which takes the place of an older one; None when it has this one.

    :raises TransitionNotAllowedError: nothing is owed, or the waiver is over, endless or without a name or
        reason.
    """
    name = _name(debt)
    if not debt.is_owed:
        raise TransitionNotAllowedError(f"{name} is {debt.state.value}; there is nothing to waive")
    if not waiver.by.strip() or not waiver.reason.strip():
        raise TransitionNotAllowedError(f"{name}: a waiver needs who gives it and why; neither may be empty")
    if waiver.until <= at:
        raise TransitionNotAllowedError(
            f"{name}: the waiver would be over at {waiver.until:%Y-%m-%d %H:%M} UTC already"
        )
    if waiver.until - at > LONGEST_WAIVER:
        raise TransitionNotAllowedError(
            f"{name}: a waiver holds for {plural(LONGEST_WAIVER.days, 'day')} at most,"
            f" until {at + LONGEST_WAIVER:%Y-%m-%d}; waive it again when it is over"
        )
    return None if waiver == debt.waiver else replace(debt, waiver=waiver)


def waiver_detail(waiver: Waiver) -> str:
    """Return what a waiver's event says to people."""
    return f"until {waiver.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {waiver.reason}"


def as_duplicate(debt: Debt, of: str, debts: Mapping[str, Debt]) -> Debt | None:
    """Return ``debt`` as a duplicate of the debt ``of``; None when it is that already.

    :param debts: all debts, by fingerprint.
    :raises TransitionNotAllowedError: ``of`` cannot pay for it: unknown, paid, of another service, or waiting
        for it.
    """
    name = _name(debt)
    original = debts.get(of)
    if original is None:
        raise TransitionNotAllowedError(f"{name}: there is no debt {of!r} that it could be a duplicate of")
    if debt.state is DebtState.DUPLICATE and debt.duplicate_of == of:
        return None
    if debt.state is DebtState.PAID:
        raise TransitionNotAllowedError(f"{name} is paid; there is nothing to be a duplicate of")
    if original.service != debt.service:
        raise TransitionNotAllowedError(
            f"{name} is owed for {debt.service} and {of[:16]} for {original.service}:"
            " a proof on one service says nothing about another"
        )
    seen = [debt.fingerprint]
    ahead: str | None = of
    while ahead is not None:
        if ahead in seen:
            circle = " → ".join(one[:16] for one in [*seen, ahead])
            raise TransitionNotAllowedError(f"{name}: a circle of duplicates is never paid: {circle}")
        seen.append(ahead)
        final = debts[ahead]
        ahead = final.duplicate_of if final.state is DebtState.DUPLICATE else None
    if final.state is DebtState.PAID:
        raise TransitionNotAllowedError(
            f"{name}: debt {final.fingerprint[:16]} is paid already; its proof said nothing about this one"
        )
    return moved(debt, DebtState.DUPLICATE, duplicate_of=of, paid_at=None)


def duplicates_of(original: str, debts: Mapping[str, Debt]) -> list[Debt]:
    """Return the debts that are paid with ``original``: its duplicates, and the duplicates of those."""
    found: list[Debt] = []
    ahead = {original}
    while ahead:
        layer = [
            debt
            for debt in debts.values()
            if debt.state is DebtState.DUPLICATE and debt.duplicate_of in ahead and debt not in found
        ]
        found += layer
        ahead = {debt.fingerprint for debt in layer}
    return found


def is_proven(debt: Debt, events: Iterable[DebtEvent], proofs: Iterable[ProofRecord]) -> bool:
    """Whether a proof was accepted in this cycle of ``debt``, since it was last owed again."""
    owed_again = [
        event.at
        for event in events
        if event.kind in (DebtEventKind.REOPENED, DebtEventKind.BYPASSED) and event.cycle == debt.cycle
    ]
    accepted = [proof.at for proof in proofs if proof.accepted and proof.cycle == debt.cycle]
    return any(not owed_again or at >= max(owed_again) for at in accepted)


def _name(debt: Debt) -> str:
    return f"debt {debt.fingerprint[:16]}"


def _since_reopened(debt: Debt) -> str:
    return " since it was reopened" if debt.state is DebtState.REOPENED else ""
