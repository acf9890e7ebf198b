"""The rows of debts and their tickets: locked, stored, and turned into what the ledger hands out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from rollback_budget.exceptions import UnknownDebtError
from rollback_budget.ledger.database import Database
from rollback_budget.ledger.debt_models import DebtRow, TicketRow
from rollback_budget.ledger.debt_views import Debt, DebtState, Ticket, TicketState, Waiver
from rollback_budget.model.budget import Comparison, Severity


def lock_debt(session: Session, fingerprint: str) -> Debt | None:
    """Return a debt and lock its row until the transaction ends; None when there is none."""
    row = session.scalar(select(DebtRow).where(DebtRow.fingerprint == fingerprint).with_for_update())
    return None if row is None else debt_view(row, session.get(TicketRow, fingerprint))


def require_debt(database: Database, session: Session, fingerprint: str) -> Debt:
    """Return a debt that must be in the ledger, its row locked. Raises UnknownDebtError."""
    debt = lock_debt(session, fingerprint)
    if debt is None:
        raise UnknownDebtError(
            f"there is no debt {fingerprint!r} in the ledger at {database.place}."
            " See: rollback-budget debt list"
        )
    return debt


def store_debt(session: Session, debt: Debt) -> None:
    """Bring a debt's row up to date."""
    session.execute(
        update(DebtRow).where(DebtRow.fingerprint == debt.fingerprint).values(**debt_values(debt))
    )


def debt_values(debt: Debt) -> dict[str, Any]:
    """Return what a debt's row holds."""
    return {
        "fingerprint": debt.fingerprint,
        "service": debt.service,
        "area": debt.area,
        "metric": debt.metric,
        "comparison": debt.comparison.value,
        "slice": debt.slice,
        "severity": debt.severity.value,
        "state": debt.state.value,
        "occurrences": debt.occurrences,
        "cycle": debt.cycle,
        "detected_at": debt.detected_at,
        "last_breach_at": debt.last_breach_at,
        "due_at": debt.due_at,
        "paid_at": debt.paid_at,
        "waived_by": None if debt.waiver is None else debt.waiver.by,
        "waived_reason": None if debt.waiver is None else debt.waiver.reason,
        "waived_until": None if debt.waiver is None else debt.waiver.until,
        "duplicate_of": debt.duplicate_of,
    }


def debt_view(row: DebtRow, ticket: TicketRow | None) -> Debt:
    """Return the view of a debt and its ticket."""
    return Debt(
        fingerprint=row.fingerprint,
        service=row.service,
        area=row.area,
        metric=row.metric,
        comparison=Comparison(row.comparison),
        slice=row.slice,
        severity=Severity(row.severity),
        state=DebtState(row.state),
        occurrences=row.occurrences,
        cycle=row.cycle,
        detected_at=row.detected_at,
        last_breach_at=row.last_breach_at,
        due_at=row.due_at,
        paid_at=row.paid_at,
        ticket=None if ticket is None else ticket_view(ticket),
        waiver=_waiver(row),
        duplicate_of=row.duplicate_of,
    )


def _waiver(row: DebtRow) -> Waiver | None:
    if row.waived_by is None or row.waived_until is None:
        return None
    return Waiver(row.waived_by, row.waived_reason or "", row.waived_until)


def ticket_view(row: TicketRow) -> Ticket:
    """Return the view of a ticket."""
    return Ticket(
        state=TicketState(row.state),
        tracker=row.tracker,
        key=row.key,
        url=row.url,
        filed_at=row.filed_at,
        lease_until=row.lease_until,
        unknown_since=row.unknown_since,
        last_error=row.last_error,
        issue_id=row.issue_id,
        status=row.status,
        seen_at=row.seen_at,
        reported_occurrences=row.told,
    )
