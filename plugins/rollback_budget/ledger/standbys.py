"""Standbys: the processes beside Airflow that take over lost watches, and when each was last seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from rollback_budget.ledger.database import Repository, database_time
from rollback_budget.ledger.models import StandbyRow


@dataclass(frozen=True, slots=True)
class SeenStandby:
    """A standby, and when it was last seen, by the database's clock."""

    name: str
    started_at: datetime
    seen_at: datetime
    now: datetime


class Standbys(Repository):
    """The standbys in the ledger."""

    def seen(self, name: str, started_at: datetime) -> datetime:
        """Note that a standby is alive; return the time of the database's host.

        :param started_at: by the same clock.
        """
        with self._database.write() as session:
            now = database_time(session)
            dialect = session.connection().dialect.name
            insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(StandbyRow)
            session.execute(
                insert.values(name=name, started_at=started_at, seen_at=now).on_conflict_do_update(
                    index_elements=[StandbyRow.name], set_={"started_at": started_at, "seen_at": now}
                )
            )
            return now

    def newest(self) -> SeenStandby | None:
        """Return the one that was seen last, None when none ever was."""
        with self._database.read() as session:
            row = session.scalars(select(StandbyRow).order_by(StandbyRow.seen_at.desc()).limit(1)).first()
            if row is None:
                return None
            return SeenStandby(row.name, row.started_at, row.seen_at, database_time(session))
