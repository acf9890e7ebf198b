"""What the incident commander said: answers to reviews, and overrides."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import select

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import DecisionRow, OverrideRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import CommanderDecision, RecordedOverride


class Decisions(Repository):
    """The commander's decisions in the ledger."""

    def add(
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
        with self._database.write() as session:
            insert_once(
                session,
                DecisionRow,
                {
                    "rollout_id": rollout_row(self._database, session, key).id,
                    "round": round_,
                    "option": option,
                    "by": by,
                    "reason": reason,
                    "at": at,
                    "timed_out": timed_out,
                },
            )

    def of(self, key: RolloutKey) -> list[CommanderDecision]:
        """Return the answers to a rollout's reviews, earliest first."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            rows = session.scalars(
                select(DecisionRow)
                .where(DecisionRow.rollout_id == rollout_id)
                .order_by(DecisionRow.at, DecisionRow.id)
            )
            return [
                CommanderDecision(row.round, row.option, row.by, row.reason, row.at, row.timed_out)
                for row in rows
            ]


class Overrides(Repository):
    """The overrides in the ledger."""

    def add(
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
        with self._database.write() as session:
            insert_once(
                session,
                OverrideRow,
                {
                    "rollout_id": rollout_row(self._database, session, key).id,
                    "round": round_,
                    "budget_ids": json.dumps(budget_ids),
                    "by": by,
                    "reason": reason,
                    "at": at,
                    "until": until,
                },
            )

    def of(self, key: RolloutKey) -> list[RecordedOverride]:
        """Return a rollout's overrides, earliest first."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
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
