"""What people and tasks do to debts: advance them, waive them, call them duplicates.

The rules stand in :mod:`rollback_budget.debt.state_machine`; the ledger stores what they say, under the
debt's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rollback_budget.debt.state_machine import (
    advanced,
    as_duplicate,
    duplicates_of,
    is_proven,
    waived,
    waiver_detail,
)
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, Waiver
from rollback_budget.ledger.debts import Debts, DebtUpdate, LockedDebt


def advance_state(
    debts: Debts, fingerprint: str, to: DebtState, *, by: str, at: datetime, detail: str | None = None
) -> Debt:
    """Move a debt forward to ``to``; where it is there already, or further, nothing happens.

    Paying pays its duplicates too.

    :return: the debt afterwards.
    :raises TransitionNotAllowedError: ``to`` is no step forward, or needs a proof that is not there.
    """

    def rule(locked: LockedDebt) -> Sequence[DebtUpdate]:
        debt = locked.debt
        proven = is_proven(debt, locked.events, locked.proofs)
        forward = advanced(debt, to, at, proven=proven)
        if forward is None:
            return []
        event = DebtEvent(fingerprint, debt.cycle, DebtEventKind(to.value), at, None, by, detail)
        updates = [DebtUpdate(forward, (event,))]
        if to is DebtState.PAID:
            updates += [_paid_with(one, fingerprint, by, at) for one in _unpaid_duplicates(locked)]
        return updates

    return debts.change(fingerprint, rule, with_duplicates=to is DebtState.PAID)[0]


def waive(debts: Debts, fingerprint: str, waiver: Waiver, at: datetime) -> Debt:
    """Let releases launch in spite of a debt until the waiver ends; return the debt afterwards.

    :raises TransitionNotAllowedError: nothing is owed, or the waiver is not allowed.
    """

    def rule(locked: LockedDebt) -> Sequence[DebtUpdate]:
        changed = waived(locked.debt, waiver, at)
        if changed is None:
            return []
        event = DebtEvent(
            fingerprint,
            changed.cycle,
            DebtEventKind.WAIVED,
            at,
            by=waiver.by,
            detail=waiver_detail(waiver),
            waived_until=waiver.until,
        )
        return [DebtUpdate(changed, (event,))]

    return debts.change(fingerprint, rule)[0]


def mark_duplicate(
    debts: Debts, fingerprint: str, of: str, *, by: str, at: datetime, detail: str | None = None
) -> Debt:
    """Let a debt be paid with another one; return it afterwards.

    :raises TransitionNotAllowedError: the other one cannot pay for it; a circle never can.
    """

    def rule(locked: LockedDebt) -> Sequence[DebtUpdate]:
        changed = as_duplicate(locked.debt, of, locked.debts)
        if changed is None:
            return []
        said = f"of {of}" if detail is None else f"of {of}: {detail}"
        event = DebtEvent(fingerprint, changed.cycle, DebtEventKind.DUPLICATE, at, None, by, said)
        return [DebtUpdate(changed, (event,))]

    return debts.change(fingerprint, rule, with_duplicates=True)[0]


def _unpaid_duplicates(locked: LockedDebt) -> list[Debt]:
    duplicates = duplicates_of(locked.debt.fingerprint, locked.debts)
    return [debt for debt in duplicates if debt.paid_at is None]


def _paid_with(debt: Debt, original: str, by: str, at: datetime) -> DebtUpdate:
    event = DebtEvent(debt.fingerprint, debt.cycle, DebtEventKind.PAID, at, None, by, f"with {original}")
    return DebtUpdate(replace(debt, paid_at=at), (event,))
