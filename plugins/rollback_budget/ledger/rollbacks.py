"""Rollbacks: what came of moving a rollout's traffic back, one row for each idempotency key."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import RollbackRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import RollbackRecord
from rollback_budget.targets.apply import Outcome


class Rollbacks(Repository):
    """The rollbacks in the ledger."""

    def record(self, key: RolloutKey, record: RollbackRecord) -> None:
        """Store what came of a rollback; a later try brings the row up to date.

        When it was first requested and first verified stays.
        """
        with self._database.write() as session:
            insert_once(
                session,
                RollbackRow,
                {
                    "idempotency_key": record.idempotency_key,
                    "rollout_id": rollout_row(self._database, session, key).id,
                    "control_plane": "",
                    "data_plane": "",
                    "detail": "",
                },
            )
            row = session.get_one(RollbackRow, record.idempotency_key, with_for_update=True)
            if row.outcome == Outcome.EFFECTIVE.value and record.outcome is not Outcome.EFFECTIVE:
                # Proven once, by somebody who could see it.
                return
            row.outcome = None if record.outcome is None else record.outcome.value
            row.requested_at = row.requested_at or record.requested_at
            row.verified_at = row.verified_at or record.verified_at
            row.control_plane = record.control_plane
            row.data_plane = record.data_plane
            row.detail = record.detail

    def record_request(
        self, key: RolloutKey, idempotency_key: str, requested_at: datetime, control_plane: str, detail: str
    ) -> None:
        """Store that a rollback was accepted, before its outcome is known; the first call wins."""
        with self._database.write() as session:
            insert_once(
                session,
                RollbackRow,
                {
                    "idempotency_key": idempotency_key,
                    "rollout_id": rollout_row(self._database, session, key).id,
                    "requested_at": requested_at,
                    "control_plane": control_plane,
                    "data_plane": "not asked",
                    "detail": detail,
                },
            )

    def of(self, key: RolloutKey) -> RollbackRecord | None:
        """Return a rollout's rollback (the latest, should there be several), None when there is none."""
        with self._database.read() as session:
            row = session.scalars(
                select(RollbackRow)
                .where(RollbackRow.rollout_id == rollout_row(self._database, session, key).id)
                .order_by(RollbackRow.requested_at.desc().nulls_last(), RollbackRow.idempotency_key)
            ).first()
            return None if row is None else _rollback(row)


def _rollback(row: RollbackRow) -> RollbackRecord:
    return RollbackRecord(
        idempotency_key=row.idempotency_key,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        requested_at=row.requested_at,
        verified_at=row.verified_at,
        control_plane=row.control_plane,
        data_plane=row.data_plane,
        detail=row.detail,
    )
