"""Notifications: messages about a rollout, claimed before they are sent, so that a retry repeats none."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import NotificationRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import SentNotification

#: A sender that claimed a message this long ago, and has neither sent it nor failed, is taken for dead.
LOST_AFTER = timedelta(minutes=2)


class Notifications(Repository):
    """The notifications in the ledger."""

    def claim(self, key: RolloutKey, occasion: str, notifier: str, at: datetime) -> bool:
        """Claim the sending of one message; False when it was sent, or is being sent.

        One that failed, or whose sender did not come back, can be claimed again.
        """
        with self._database.write() as session:
            rollout_id = rollout_row(self._database, session, key).id
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

    def settle(
        self, key: RolloutKey, occasion: str, notifier: str, at: datetime, error: str | None = None
    ) -> None:
        """Write down that a claimed message was sent, or what went wrong."""
        with self._database.write() as session:
            session.execute(
                update(NotificationRow)
                .where(
                    NotificationRow.rollout_id == rollout_row(self._database, session, key).id,
                    NotificationRow.occasion == occasion,
                    NotificationRow.notifier == notifier,
                    NotificationRow.sent_at.is_(None),
                )
                .values(sent_at=at if error is None else None, error=error)
            )

    def of(self, key: RolloutKey) -> list[SentNotification]:
        """Return the messages about a rollout, in the order of claiming."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            rows = session.scalars(
                select(NotificationRow)
                .where(NotificationRow.rollout_id == rollout_id)
                .order_by(NotificationRow.id)
            )
            return [
                SentNotification(row.occasion, row.notifier, row.claimed_at, row.sent_at, row.error)
                for row in rows
            ]
