"""What makes a debt, and makes it owed again: a breach, or a launch past a gate that blocked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from rollback_budget.debt.state_machine import moved
from rollback_budget.ledger.debt_views import SETTLED, Debt, DebtEvent, DebtEventKind, DebtState
from rollback_budget.ledger.fingerprint import debt_fingerprint
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.model.budget import Comparison, Severity

#: How long a debt may stay unpaid, from the breach.
DUE_WITHIN = {
    Severity.CRITICAL: timedelta(days=3),
    Severity.MAJOR: timedelta(days=10),
    Severity.MINOR: timedelta(days=30),
}
#: A paid debt that recurs within this time was not paid.
REOPENED_WITHIN = timedelta(days=30)

#: What a launch past a blocking gate is filed under; its slice is the release that was launched.
BYPASS_AREA, BYPASS_METRIC = "launch_gate", "bypass"

GRAVEST_FIRST = (Severity.CRITICAL, Severity.MAJOR, Severity.MINOR)


def count_breach(debt: Debt | None, logged: LoggedBreach) -> tuple[Debt, DebtEventKind]:
    """Return what ``debt`` (None: not known yet) becomes by another breach, and what that is called.

    Breaches may come in any order of time. A duplicate that was paid with its original and breaches again
    was not its duplicate: it is owed by itself from then on.
    """
    if debt is None:
        return _detected(logged, cycle=1), DebtEventKind.DETECTED
    breach = logged.breach
    if debt.state in SETTLED and debt.paid_at is not None and breach.breached_at > debt.paid_at:
        if breach.breached_at - debt.paid_at > REOPENED_WITHIN:
            return _detected(logged, cycle=debt.cycle + 1), DebtEventKind.DETECTED
        reopened = moved(
            debt,
            DebtState.REOPENED,
            severity=breach.severity,
            occurrences=debt.occurrences + 1,
            last_breach_at=breach.breached_at,
            due_at=breach.breached_at + DUE_WITHIN[breach.severity],
            paid_at=None,
            waiver=None,
            duplicate_of=None,
        )
        return reopened, DebtEventKind.REOPENED
    occurred = replace(
        debt,
        severity=min(debt.severity, breach.severity, key=GRAVEST_FIRST.index),
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


def bypass_fingerprint(service: str, release: str) -> str:
    """Return what names the debt of launching ``release`` past the gate."""
    return debt_fingerprint(service, BYPASS_AREA, BYPASS_METRIC, Comparison.INCREASE, release)


def bypassed(
    debt: Debt | None, service: str, release: str, *, by: str, reason: str, at: datetime
) -> tuple[Debt, DebtEvent]:
    """Return what ``debt`` (None: not known yet) becomes by another launch past the gate, and the event.

    A paid one is owed again: the gate blocked anew.
    """
    fingerprint = bypass_fingerprint(service, release)
    due = at + DUE_WITHIN[Severity.MAJOR]
    if debt is None:
        owed = Debt(
            fingerprint=fingerprint,
            service=service,
            area=BYPASS_AREA,
            metric=BYPASS_METRIC,
            comparison=Comparison.INCREASE,
            slice=release,
            severity=Severity.MAJOR,
            state=DebtState.DETECTED,
            occurrences=1,
            cycle=1,
            detected_at=at,
            last_breach_at=at,
            due_at=due,
        )
    elif debt.is_owed:
        owed = replace(debt, occurrences=debt.occurrences + 1, last_breach_at=max(at, debt.last_breach_at))
    else:
        owed = moved(
            debt,
            DebtState.REOPENED,
            occurrences=debt.occurrences + 1,
            last_breach_at=at,
            due_at=due,
            paid_at=None,
            waiver=None,
            duplicate_of=None,
        )
    return owed, DebtEvent(fingerprint, owed.cycle, DebtEventKind.BYPASSED, at, None, by, reason)
