"""Reviews: when the incident commander was asked, and until when an answer is waited for."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import ReviewRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import Review
from rollback_budget.model.decision import OnTimeout


class Reviews(Repository):
    """The reviews in the ledger."""

    def open(
        self, key: RolloutKey, round_: int, deadline: datetime, on_timeout: OnTimeout, at: datetime
    ) -> Review:
        """Append that the commander is asked; a round's review is opened once. Return what is stored."""
        with self._database.write() as session:
            rollout_id = rollout_row(self._database, session, key).id
            insert_once(
                session,
                ReviewRow,
                {
                    "rollout_id": rollout_id,
                    "round": round_,
                    "opened_at": at,
                    "deadline": deadline,
                    "on_timeout": on_timeout.value,
                },
            )
            stored = select(ReviewRow).where(ReviewRow.rollout_id == rollout_id, ReviewRow.round == round_)
            return _review(session.scalars(stored).one())

    def note_asked(self, key: RolloutKey, round_: int, at: datetime) -> None:
        """Store since when a round's review can be answered; the first call wins."""
        with self._database.write() as session:
            session.execute(
                update(ReviewRow)
                .where(
                    ReviewRow.rollout_id == rollout_row(self._database, session, key).id,
                    ReviewRow.round == round_,
                    ReviewRow.asked_at.is_(None),
                )
                .values(asked_at=at)
            )

    def of(self, key: RolloutKey) -> list[Review]:
        """Return a rollout's reviews, by round."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            rows = session.scalars(
                select(ReviewRow).where(ReviewRow.rollout_id == rollout_id).order_by(ReviewRow.round)
            )
            return [_review(row) for row in rows]


def _review(row: ReviewRow) -> Review:
    return Review(row.round, row.opened_at, row.deadline, OnTimeout(row.on_timeout), row.asked_at)
