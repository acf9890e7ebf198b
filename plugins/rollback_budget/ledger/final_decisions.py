"""The final decision of a rollout, rolled back or promoted: taken once, and obeyed ever after."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update

from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.models import RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import final_of, named_row, rollout_row
from rollback_budget.ledger.views import Final, FinalDecision


class FinalDecisions(Repository):
    """The final decisions of the ledger's rollouts."""

    def of(self, key: RolloutKey) -> Final | None:
        """Return the final decision, None while there is none; asks nothing of the spec that is stored."""
        with self._database.read() as session:
            row = session.scalar(named_row(key))
            return None if row is None else final_of(row)

    def take(self, key: RolloutKey, decision: FinalDecision, by: str, reason: str, at: datetime) -> Final:
        """Decide the rollout unless it is decided; return what holds, perhaps an earlier decision."""
        with self._database.write() as session:
            row = rollout_row(self._database, session, key)
            session.execute(
                update(RolloutRow)
                .where(RolloutRow.id == row.id, RolloutRow.final_decision.is_(None))
                .values(final_decision=decision.value, final_by=by, final_reason=reason, final_at=at)
            )
            session.refresh(row)
            final = final_of(row)
            assert final is not None
            return final
