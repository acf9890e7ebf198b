"""Eval cases in the ledger: which there are, and whether they are approved; the case files hold the rest."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.debt_models import CaseRow
from rollback_budget.ledger.debt_views import CaseEntry, CaseState


class CaseIndex(Repository):
    """The eval cases of the debts in the ledger."""

    def index(self, entries: Sequence[CaseEntry]) -> None:
        """Store how cases stand in their files; when a case was first drafted stays."""
        with self._database.write() as session:
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

    def of(self, fingerprint: str) -> list[CaseEntry]:
        """Return the cases that were ever drafted for a debt, those that people removed among them."""
        query = select(CaseRow).where(CaseRow.debt_fingerprint == fingerprint).order_by(CaseRow.case_id)
        with self._database.read() as session:
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
