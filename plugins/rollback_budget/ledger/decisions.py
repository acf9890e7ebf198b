"""What people and tasks did about a breach: decisions, overrides and rollbacks."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import select

from rollback_budget.ledger.breaches import Breaches
from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.models import DecisionRow, OverrideRow, RollbackRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import CommanderDecision, RecordedOverride, RollbackRecord
from rollback_budget.targets.apply import Outcome


class Decisions(Breaches):
    """The deeds in the ledger. Every method raises LedgerError."""

    def record_decision(
        self,
        key: RolloutKey,
        round_: int,
        option: str,
        by: str | None,
        reason: str | None,
        at: datetime,
        timed_out: bool,
    ) -> None:
        """Append an answer to a review; the same round and time is the same answer.

        :param at: when it was given (Airflow's ``responded_at``), which a retry repeats.
        """
        with self.write() as session:
            insert_once(
                session,
                DecisionRow,
                {
                    "rollout_id": self._row(session, key).id,
                    "round": round_,
                    "option": option,
                    "by": by,
                    "reason": reason,
                    "at": at,
                    "timed_out": timed_out,
                },
            )

    def decisions(self, key: RolloutKey) -> list[CommanderDecision]:
        """Return the answers to a rollout's reviews, earliest first."""
        with self.read() as session:
            rollout_id = self._row(session, key).id
            rows = session.scalars(
                select(DecisionRow)
                .where(DecisionRow.rollout_id == rollout_id)
                .order_by(DecisionRow.at, DecisionRow.id)
            )
            return [
                CommanderDecision(row.round, row.option, row.by, row.reason, row.at, row.timed_out)
                for row in rows
            ]

    def record_override(
        self,
        key: RolloutKey,
        round_: int,
        budget_ids: tuple[str, ...],
        by: str,
        reason: str,
        at: datetime,
        until: datetime,
    ) -> None:
        """Append a decision to go on; the same round and time is the same override.

        :param round_: the round of the review, 0 for an override outside of one.
        """
        with self.write() as session:
            insert_once(
                session,
                OverrideRow,
                {
                    "rollout_id": self._row(session, key).id,
                    "round": round_,
                    "budget_ids": json.dumps(budget_ids),
                    "by": by,
                    "reason": reason,
                    "at": at,
                    "until": until,
                },
            )

    def overrides(self, key: RolloutKey) -> list[RecordedOverride]:
        """Return a rollout's overrides, earliest first."""
        with self.read() as session:
            rollout_id = self._row(session, key).id
            rows = session.scalars(
                select(OverrideRow)
                .where(OverrideRow.rollout_id == rollout_id)
                .order_by(OverrideRow.at, OverrideRow.id)
            )
            return [
                RecordedOverride(
                    row.round, tuple(json.loads(row.budget_ids)), row.by, row.reason, row.at, row.until
                )
                for row in rows
            ]

    def record_rollback(self, key: RolloutKey, record: RollbackRecord) -> None:
        """Store what came of a rollback; a later try brings the row up to date.

        When it was first requested and first verified stays.
        """
        with self.write() as session:
            insert_once(
                session,
                RollbackRow,
                {
                    "idempotency_key": record.idempotency_key,
                    "rollout_id": self._row(session, key).id,
                    "control_plane": "",
                    "data_plane": "",
                    "detail": "",
                },
            )
            row = session.get_one(RollbackRow, record.idempotency_key, with_for_update=True)
            row.outcome = None if record.outcome is None else record.outcome.value
            row.requested_at = row.requested_at or record.requested_at
            row.verified_at = row.verified_at or record.verified_at
            row.control_plane = record.control_plane
            row.data_plane = record.data_plane
            row.detail = record.detail

    def rollback_of(self, key: RolloutKey) -> RollbackRecord | None:
        """Return a rollout's rollback (the latest, should there be several), None when there is none."""
        with self.read() as session:
            row = session.scalars(
                select(RollbackRow)
                .where(RollbackRow.rollout_id == self._row(session, key).id)
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
