"""The way of a debt from detected to paid: one way, step by step, and no payment without a proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rollback_budget.exceptions import LedgerError
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, Waiver

#: From the breach to the payment; a step may be left out (no tracker, cases that were there), none goes back.
WAY = (
    DebtState.DETECTED,
    DebtState.FILED,
    DebtState.DRAFTED,
    DebtState.APPROVED,
    DebtState.PROVEN,
    DebtState.PAID,
)
#: A waiver that never ends would be a payment without a proof.
LONGEST_WAIVER = timedelta(days=90)
_MINUTE = "%Y-%m-%d %H:%M"

# A reopened debt walks again from the beginning.
_RANK = {**{state: rank for rank, state in enumerate(WAY)}, DebtState.REOPENED: 0}


def advanced(debt: Debt, to: DebtState, at: datetime, *, proven: bool) -> Debt | None:
    """Return ``debt`` moved forward to a state of the way; None when it is there already, or further.

    :param proven: whether a proof was accepted since the debt was detected, or last reopened.
    :raises LedgerError: there is no such step, or not for this debt.
    """
    name = f"debt {debt.fingerprint[:16]}"
    if to not in WAY[1:]:
        steps = ", ".join(state.value for state in WAY[1:])
        raise LedgerError(f"{name}: a debt does not move to {to.value!r} this way; its steps are {steps}")
    if debt.state is DebtState.DUPLICATE:
        raise LedgerError(
            f"{name} is a duplicate and is paid with debt {(debt.duplicate_of or '')[:16]}; work on that one"
        )
    if _RANK[to] <= _RANK[debt.state]:
        return None
    if to in (DebtState.PROVEN, DebtState.PAID) and not proven:
        raise LedgerError(
            f"{name} has no accepted red-green proof{_since_reopened(debt)}, so it cannot be {to.value}."
            f" Run: rollback-budget debt prove {debt.fingerprint[:16]}"
        )
    if to is DebtState.PAID and debt.state is not DebtState.PROVEN:
        raise LedgerError(f"{name} is {debt.state.value}; it is paid once it is proven")
    return replace(debt, state=to, paid_at=at if to is DebtState.PAID else None)


def waived(debt: Debt, waiver: Waiver, at: datetime) -> Debt | None:
    """Return ``debt`` with a waiver, which takes the place of an older one; None when it has this one.

    :raises LedgerError: nothing is owed, or the waiver is over, endless or without a name or reason.
    """
    name = f"debt {debt.fingerprint[:16]}"
    if not debt.is_owed:
        raise LedgerError(f"{name} is {debt.state.value}; there is nothing to waive")
    if not waiver.by.strip() or not waiver.reason.strip():
        raise LedgerError(f"{name}: a waiver needs who gives it and why; neither may be empty")
    if waiver.until <= at:
        raise LedgerError(f"{name}: the waiver would be over at {waiver.until:%Y-%m-%d %H:%M} UTC already")
    if waiver.until - at > LONGEST_WAIVER:
        raise LedgerError(
            f"{name}: a waiver holds for {LONGEST_WAIVER.days} days at most,"
            f" until {at + LONGEST_WAIVER:%Y-%m-%d}; waive it again when it is over"
        )
    return None if waiver == debt.waiver else replace(debt, waiver=waiver)


def waiver_detail(waiver: Waiver) -> str:
    """Return what a waiver's event says; :func:`waived_until` reads it."""
    return f"until {waiver.until.astimezone(UTC):{_MINUTE}} UTC: {waiver.reason}"


def waived_until(event: DebtEvent) -> datetime | None:
    """Return the end of the waiver that an event records, to the minute; None for other events."""
    if event.kind is not DebtEventKind.WAIVED or event.detail is None:
        return None
    said = event.detail.removeprefix("until ").partition(" UTC: ")[0]
    return datetime.strptime(said, _MINUTE).replace(tzinfo=UTC)


def as_duplicate(debt: Debt, of: str, debts: Mapping[str, Debt]) -> Debt | None:
    """Return ``debt`` as a duplicate of the debt ``of``; None when it is that already.

    :param debts: all debts, by fingerprint.
    :raises LedgerError: ``of`` cannot pay for it: unknown, paid, of another service, or waiting for it.
    """
    name = f"debt {debt.fingerprint[:16]}"
    original = debts.get(of)
    if original is None:
        raise LedgerError(f"{name}: there is no debt {of!r} that it could be a duplicate of")
    if debt.state is DebtState.DUPLICATE and debt.duplicate_of == of:
        return None
    if debt.state is DebtState.PAID:
        raise LedgerError(f"{name} is paid; there is nothing to be a duplicate of")
    if original.service != debt.service:
        raise LedgerError(
            f"{name} is owed for {debt.service} and {of[:16]} for {original.service}:"
            " a proof on one service says nothing about another"
        )
    seen = [debt.fingerprint]
    ahead: str | None = of
    while ahead is not None:
        if ahead in seen:
            circle = " → ".join(one[:16] for one in [*seen, ahead])
            raise LedgerError(f"{name}: a circle of duplicates is never paid: {circle}")
        seen.append(ahead)
        final = debts[ahead]
        ahead = final.duplicate_of if final.state is DebtState.DUPLICATE else None
    if final.state is DebtState.PAID:
        raise LedgerError(
            f"{name}: debt {final.fingerprint[:16]} is paid already; its proof said nothing about this one"
        )
    return replace(debt, state=DebtState.DUPLICATE, duplicate_of=of, paid_at=None)


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


def _since_reopened(debt: Debt) -> str:
    return " since it was reopened" if debt.state is DebtState.REOPENED else ""
