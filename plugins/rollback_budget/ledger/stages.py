"""Stages: how much of the traffic a rollout has given its release, and since when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import RolloutRow, StageRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import StageRecord


class Stages(Repository):
    """The stages in the ledger."""

    def record(self, key: RolloutKey, stage: int, share: float, at: datetime) -> StageRecord:
        """Store that a stage has begun; the first call for a stage wins. Return what is stored.

        :param stage: counted from 1.
        :param share: the release's fraction of traffic.
        """
        with self._database.write() as session:
            rollout_id = rollout_row(self._database, session, key).id
            values = {"rollout_id": rollout_id, "stage": stage, "share": share, "at": at}
            insert_once(session, StageRow, values)
            row = session.scalars(
                select(StageRow).where(StageRow.rollout_id == rollout_id, StageRow.stage == stage)
            ).one()
            return StageRecord(row.stage, row.share, row.at)

    def begin_write(self, key: RolloutKey, until: datetime) -> bool:
        """Announce that the release is about to get more traffic; False when the rollout has ended.

        From then to :meth:`end_write`, at the longest until ``until``, a rollback that is decided waits a
        moment for this write. After a final decision no write begins. A write that was never ended stays
        noted: whether it took effect is not known.
        """
        with self._database.write() as session:
            row = rollout_row(self._database, session, key)
            begun = session.execute(
                update(RolloutRow)
                .where(RolloutRow.id == row.id, RolloutRow.final_decision.is_(None))
                .values(stage_write_until=until)
                .returning(RolloutRow.id)
            )
            return begun.first() is not None

    def end_write(self, key: RolloutKey) -> None:
        """Announce that the write is over, whatever came of it."""
        with self._database.write() as session:
            row = rollout_row(self._database, session, key)
            session.execute(update(RolloutRow).where(RolloutRow.id == row.id).values(stage_write_until=None))

    def write_until(self, key: RolloutKey) -> datetime | None:
        """Return until when a stage may be written just now, at the longest; None when none is."""
        with self._database.read() as session:
            return rollout_row(self._database, session, key).stage_write_until

    def of(self, key: RolloutKey) -> list[StageRecord]:
        """Return the stages that have begun, in order."""
        with self._database.read() as session:
            rows = session.scalars(
                select(StageRow)
                .where(StageRow.rollout_id == rollout_row(self._database, session, key).id)
                .order_by(StageRow.stage)
            )
            return [StageRecord(row.stage, row.share, row.at) for row in rows]
