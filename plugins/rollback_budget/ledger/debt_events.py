"""What happened to debts: events that are only appended, in the order in which they were recorded."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.debt_models import DebtEventRow
from rollback_budget.ledger.debt_rows import require_debt
from rollback_budget.ledger.debt_views import DebtEvent, DebtEventKind


class DebtEvents(Repository):
    """The events of the debts in the ledger."""

    def add(self, event: DebtEvent) -> bool:
        """Append an event that changes nothing else; return whether it was new."""
        with self._database.write() as session:
            require_debt(self._database, session, event.debt_fingerprint)
            if event in events_of(session, event.debt_fingerprint):
                return False
            append_event(session, event)
            return True

    def of(self, fingerprint: str) -> list[DebtEvent]:
        """Return the events of a debt, in the order in which they were recorded."""
        with self._database.read() as session:
            return events_of(session, fingerprint)

    def every(self) -> list[DebtEvent]:
        """Return the events of all debts, in the order in which they were recorded."""
        with self._database.read() as session:
            return events_of(session, None)


def append_event(session: Session, event: DebtEvent) -> None:
    """Append an event in the caller's transaction."""
    values = {name: getattr(event, name) for name in DebtEvent.__dataclass_fields__}
    session.add(DebtEventRow(**{**values, "kind": event.kind.value}))
    session.flush()


def events_of(session: Session, fingerprint: str | None) -> list[DebtEvent]:
    """Return the events of a debt, None for those of all, in the order in which they were recorded."""
    query = select(DebtEventRow).order_by(DebtEventRow.id)
    if fingerprint is not None:
        query = query.where(DebtEventRow.debt_fingerprint == fingerprint)
    return [
        DebtEvent(
            debt_fingerprint=row.debt_fingerprint,
            cycle=row.cycle,
            kind=DebtEventKind(row.kind),
            at=row.at,
            breach_fingerprint=row.breach_fingerprint,
            by=row.by,
            detail=row.detail,
            waived_until=row.waived_until,
            ageing_step=row.ageing_step,
        )
        for row in session.scalars(query)
    ]
