"""Leases: which standby watches a rollout whose own watch is lost, and until when it may.

All times are those of the database's host, so that no clock of a standby's host counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from rollback_budget.ledger.database import Repository, database_time, insert_once
from rollback_budget.ledger.models import RolloutRow, WatchLeaseRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row

#: Between a standby's name and what tells two processes of that name apart.
_SEPARATOR = "#"


def holder_of(name: str, token: str) -> str:
    """Return what names one standby process as the holder of a lease."""
    return f"{name}{_SEPARATOR}{token}"


@dataclass(frozen=True, slots=True)
class WatchLease:
    """A lease as it stands in the ledger.

    :param now: when it was read.
    """

    holder: str
    taken_at: datetime
    until: datetime
    now: datetime

    @property
    def name(self) -> str:
        """The standby's name."""
        return self.holder.rpartition(_SEPARATOR)[0] or self.holder

    @property
    def is_valid(self) -> bool:
        """Whether it holds."""
        return self.now < self.until


class WatchLeases(Repository):
    """The leases in the ledger, at most one for each rollout."""

    def take(self, key: RolloutKey, holder: str, period: timedelta) -> WatchLease | None:
        """Take the lease unless another holder has it, by compare-and-set; None when one has."""
        with self._database.write() as session:
            now = database_time(session)
            rollout_id = rollout_row(self._database, session, key).id
            values = {"rollout_id": rollout_id, "holder": holder, "taken_at": now, "until": now + period}
            if insert_once(session, WatchLeaseRow, values):
                return WatchLease(holder, now, now + period, now)
            taken = session.execute(
                update(WatchLeaseRow)
                .where(
                    WatchLeaseRow.rollout_id == rollout_id,
                    (WatchLeaseRow.until <= now) | (WatchLeaseRow.holder == holder),
                )
                .values(holder=holder, taken_at=now, until=now + period)
                .returning(WatchLeaseRow.rollout_id)
            )
            return None if taken.first() is None else WatchLease(holder, now, now + period, now)

    def renew(self, holder: str, period: timedelta) -> set[RolloutKey]:
        """Renew every lease that a holder still has; return the rollouts they are for.

        What has run out is not renewed: another standby may be about to take it.
        """
        with self._database.write() as session:
            now = database_time(session)
            renewed = session.scalars(
                update(WatchLeaseRow)
                .where(WatchLeaseRow.holder == holder, WatchLeaseRow.until > now)
                .values(until=now + period)
                .returning(WatchLeaseRow.rollout_id)
            ).all()
            if not renewed:
                return set()
            held = (
                select(RolloutRow.dag_id, RolloutRow.run_id)
                .join(WatchLeaseRow, WatchLeaseRow.rollout_id == RolloutRow.id)
                .where(WatchLeaseRow.holder == holder, WatchLeaseRow.until > now)
            )
            return {RolloutKey(dag_id, run_id) for dag_id, run_id in session.execute(held)}

    def release(self, key: RolloutKey, holder: str) -> None:
        """Give one lease back; another holder's stays."""
        with self._database.write() as session:
            rollout_id = rollout_row(self._database, session, key).id
            session.execute(
                delete(WatchLeaseRow).where(
                    WatchLeaseRow.rollout_id == rollout_id, WatchLeaseRow.holder == holder
                )
            )

    def release_all(self, holder: str) -> None:
        """Give every lease of a holder back."""
        with self._database.write() as session:
            session.execute(delete(WatchLeaseRow).where(WatchLeaseRow.holder == holder))

    def of(self, key: RolloutKey) -> WatchLease | None:
        """Return a rollout's lease, also one that has run out; None when there is none."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            row = session.get(WatchLeaseRow, rollout_id)
            if row is None:
                return None
            return WatchLease(row.holder, row.taken_at, row.until, database_time(session))
