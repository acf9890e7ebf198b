"""Reviews that were opened, and messages that were sent."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update

from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.models import NotificationRow, ReviewRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.suspensions import Suspensions
from rollback_budget.ledger.views import Review, SentNotification
from rollback_budget.model.decision import OnTimeout

#: Whoever claimed a message this long ago and has neither sent it nor failed is taken for dead.
LOST_AFTER = timedelta(minutes=2)


class Reviews(Suspensions):
    """Reviews and messages in the ledger. Every method raises LedgerError."""

    def open_review(
        self, key: RolloutKey, round_: int, deadline: datetime, on_timeout: OnTimeout, at: datetime
    ) -> None:
        """Append that the commander is asked; a round's review is opened once."""
        with self.write() as session:
            insert_once(
                session,
                ReviewRow,
                {
                    "rollout_id": self._row(session, key).id,
                    "round": round_,
                    "opened_at": at,
                    "deadline": deadline,
                    "on_timeout": on_timeout.value,
                },
            )

    def reviews(self, key: RolloutKey) -> list[Review]:
        """Return a rollout's reviews, by round."""
        with self.read() as session:
            rollout_id = self._row(session, key).id
            rows = session.scalars(
                select(ReviewRow).where(ReviewRow.rollout_id == rollout_id).order_by(ReviewRow.round)
            )
            return [Review(row.round, row.opened_at, row.deadline, OnTimeout(row.on_timeout)) for row in rows]

    def claim_notification(self, key: RolloutKey, occasion: str, notifier: str, at: datetime) -> bool:
        """Claim the sending of one message; False when it was sent, or somebody is at it.

        One that failed, or whose sender was lost, can be claimed again.
        """
        with self.write() as session:
            rollout_id = self._row(session, key).id
            values = {
                "rollout_id": rollout_id,
                "occasion": occasion,
                "notifier": notifier,
                "claimed_at": at,
            }
            if insert_once(session, NotificationRow, values):
                return True
            claimed = session.execute(
                update(NotificationRow)
                .where(
                    NotificationRow.rollout_id == rollout_id,
                    NotificationRow.occasion == occasion,
                    NotificationRow.notifier == notifier,
                    NotificationRow.sent_at.is_(None),
                    NotificationRow.error.is_not(None) | (NotificationRow.claimed_at <= at - LOST_AFTER),
                )
                .values(claimed_at=at, error=None)
                .returning(NotificationRow.id)
            )
            return claimed.first() is not None

    def settle_notification(
        self, key: RolloutKey, occasion: str, notifier: str, at: datetime, error: str | None = None
    ) -> None:
        """Write down that a claimed message was sent, or what went wrong."""
        with self.write() as session:
            session.execute(
                update(NotificationRow)
                .where(
                    NotificationRow.rollout_id == self._row(session, key).id,
                    NotificationRow.occasion == occasion,
                    NotificationRow.notifier == notifier,
                    NotificationRow.sent_at.is_(None),
                )
                .values(sent_at=at if error is None else None, error=error)
            )

    def notifications(self, key: RolloutKey) -> list[SentNotification]:
        """Return the messages about a rollout, in the order of claiming."""
        with self.read() as session:
            rollout_id = self._row(session, key).id
            rows = session.scalars(
                select(NotificationRow)
                .where(NotificationRow.rollout_id == rollout_id)
                .order_by(NotificationRow.id)
            )
            return [
                SentNotification(row.occasion, row.notifier, row.claimed_at, row.sent_at, row.error)
                for row in rows
            ]
