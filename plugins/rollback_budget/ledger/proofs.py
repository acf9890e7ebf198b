"""Red-green proofs as they were judged: only appended, the same proof once in a cycle of its debt."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_models import ProofRow
from rollback_budget.ledger.debt_rows import require_debt
from rollback_budget.ledger.debt_views import ProofRecord


class Proofs(Repository):
    """The proofs in the ledger."""

    def add(self, proof: ProofRecord) -> bool:
        """Append a proof; return whether it was new."""
        with self._database.write() as session:
            require_debt(self._database, session, proof.debt_fingerprint)
            values = {name: getattr(proof, name) for name in ProofRecord.__dataclass_fields__}
            return insert_once(session, ProofRow, values)

    def of(self, fingerprint: str) -> list[ProofRecord]:
        """Return a debt's proofs, accepted or not, in the order in which they were recorded."""
        with self._database.read() as session:
            return proofs_of(session, fingerprint)


def proofs_of(session: Session, fingerprint: str) -> list[ProofRecord]:
    """Return a debt's proofs, in the order in which they were recorded."""
    query = select(ProofRow).where(ProofRow.debt_fingerprint == fingerprint).order_by(ProofRow.id)
    return [
        ProofRecord(**{name: getattr(row, name) for name in ProofRecord.__dataclass_fields__})
        for row in session.scalars(query)
    ]
