"""Heartbeats: that something in Airflow watches a rollout, or proves its rollback, by the ledger's clock."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from rollback_budget.ledger.database import Repository, database_time
from rollback_budget.ledger.models import RolloutRow, WatchHeartbeatRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import among, batches

#: Databases limit the values of one statement.
_KEYS = 400


class WatchHeartbeats(Repository):
    """The heartbeats in the ledger, the newest of each rollout."""

    def beat(self, keys: Collection[RolloutKey]) -> None:
        """Note that the watches of these rollouts are alive now; rollouts that are unknown are left out."""
        with self._database.write() as session:
            now = database_time(session)
            dialect = session.connection().dialect.name
            insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(WatchHeartbeatRow)
            for some in batches(keys, _KEYS):
                # In one order everywhere, so that two writers of the same rows never wait in a ring.
                ids = session.scalars(select(RolloutRow.id).where(among(some)).order_by(RolloutRow.id)).all()
                if ids:
                    statement = insert.values([{"rollout_id": id_, "at": now} for id_ in ids])
                    session.execute(
                        statement.on_conflict_do_update(
                            index_elements=[WatchHeartbeatRow.rollout_id], set_={"at": now}
                        )
                    )
