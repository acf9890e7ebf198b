"""What a breach does to a debt: detected, one more occurrence, or reopened."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from rollback_budget.ledger.debt_records import Debt, DebtEventKind, DebtState
from rollback_budget.ledger.records import LoggedBreach
from rollback_budget.spec.model import Severity

#: How long a debt may stay unpaid, from the breach.
DUE_WITHIN = {
    Severity.CRITICAL: timedelta(days=3),
    Severity.MAJOR: timedelta(days=10),
    Severity.MINOR: timedelta(days=30),
}
#: A paid debt that recurs within this time was not paid.
REOPENED_WITHIN = timedelta(days=30)

_GRAVEST_FIRST = (Severity.CRITICAL, Severity.MAJOR, Severity.MINOR)


def advance(debt: Debt | None, logged: LoggedBreach) -> tuple[Debt, DebtEventKind]:
    """Return what ``debt`` (None: not known yet) becomes by another breach, and what that is called.

    Breaches may come in any order of time.
    """
    if debt is None:
        return _detected(logged, cycle=1), DebtEventKind.DETECTED
    breach = logged.breach
    if debt.state is DebtState.PAID and debt.paid_at is not None and breach.breached_at > debt.paid_at:
        if breach.breached_at - debt.paid_at > REOPENED_WITHIN:
            return _detected(logged, cycle=debt.cycle + 1), DebtEventKind.DETECTED
        reopened = replace(
            debt,
            state=DebtState.REOPENED,
            severity=breach.severity,
            occurrences=debt.occurrences + 1,
            last_breach_at=breach.breached_at,
            due_at=breach.breached_at + DUE_WITHIN[breach.severity],
            paid_at=None,
        )
        return reopened, DebtEventKind.REOPENED
    occurred = replace(
        debt,
        severity=min(debt.severity, breach.severity, key=_GRAVEST_FIRST.index),
        occurrences=debt.occurrences + 1,
        detected_at=min(debt.detected_at, breach.breached_at),
        last_breach_at=max(debt.last_breach_at, breach.breached_at),
        due_at=min(debt.due_at, breach.breached_at + DUE_WITHIN[breach.severity]),
    )
    return occurred, DebtEventKind.OCCURRENCE


def _detected(logged: LoggedBreach, *, cycle: int) -> Debt:
    breach = logged.breach
    return Debt(
        fingerprint=logged.debt_fingerprint,
        service=logged.service,
        area=breach.area,
        metric=breach.metric,
        comparison=breach.comparison,
        slice=breach.slice,
        severity=breach.severity,
        state=DebtState.DETECTED,
        occurrences=1,
        cycle=cycle,
        detected_at=breach.breached_at,
        last_breach_at=breach.breached_at,
        due_at=breach.breached_at + DUE_WITHIN[breach.severity],
    )
