"""Eval cases in the ledger: which there are, and whether they are approved; the case files hold the rest."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from rollback_budget.ledger.debt_models import CaseRow, DebtRow, TicketRow
from rollback_budget.ledger.debt_repository import Payments
from rollback_budget.ledger.debt_views import CaseEntry, CaseState, Debt, DebtState
from rollback_budget.ledger.debts import view

#: A debt without cases: drafting is next.
UNDRAFTED = (DebtState.DETECTED, DebtState.FILED, DebtState.REOPENED)


class CaseIndex(Payments):
    """The cases of the ledger's debts. Every method raises LedgerError."""

    def index_cases(self, entries: Sequence[CaseEntry]) -> None:
        """Store how cases stand in their files; when a case was first drafted stays."""
        with self.write() as session:
            for entry in sorted(entries, key=lambda entry: (entry.debt_fingerprint, entry.case_id)):
                row = session.get(CaseRow, (entry.debt_fingerprint, entry.case_id))
                if row is None:
                    row = CaseRow(
                        debt_fingerprint=entry.debt_fingerprint,
                        case_id=entry.case_id,
                        drafted_at=entry.drafted_at,
                    )
                    session.add(row)
                row.state = entry.state.value
                row.approved_at, row.approved_by = entry.approved_at, entry.approved_by

    def case_entries(self, fingerprint: str) -> list[CaseEntry]:
        """Return the cases that were ever drafted for a debt, those that people removed among them."""
        query = select(CaseRow).where(CaseRow.debt_fingerprint == fingerprint).order_by(CaseRow.case_id)
        with self.read() as session:
            return [
                CaseEntry(
                    debt_fingerprint=row.debt_fingerprint,
                    case_id=row.case_id,
                    state=CaseState(row.state),
                    drafted_at=row.drafted_at,
                    approved_at=row.approved_at,
                    approved_by=row.approved_by,
                )
                for row in session.scalars(query)
            ]

    def undrafted_debts(self) -> list[Debt]:
        """Return the debts that are owed and have no cases yet, oldest first."""
        query = (
            select(DebtRow, TicketRow)
            .outerjoin(TicketRow, TicketRow.debt_fingerprint == DebtRow.fingerprint)
            .where(DebtRow.state.in_([state.value for state in UNDRAFTED]))
            .order_by(DebtRow.detected_at, DebtRow.fingerprint)
        )
        with self.read() as session:
            return [view(row, ticket) for row, ticket in session.execute(query)]
