"""Suspensions: budgets that are suspended for a while."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import func, select, update

from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import SuspensionRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollouts import Rollouts
from rollback_budget.ledger.views import LoggedSuspension, Scope


class Suspensions(Repository):
    """The suspensions in the ledger."""

    def add(self, scope: Scope, suspension: Suspension, once: str | None = None) -> LoggedSuspension:
        """Record a suspension, which holds from the next look on.

        Its ``since`` must be the time of day: looks that were judged already stay as they are.

        :param once: what makes a retry the same suspension; by default every call is another one.
        :return: what holds; of a retry, what was recorded first.
        """
        once = once or uuid.uuid4().hex
        with self._database.write() as session:
            insert_once(
                session,
                SuspensionRow,
                {
                    "once": once,
                    "dag_id": scope.dag_id,
                    "run_id": scope.run_id,
                    "name": scope.name,
                    "budget": suspension.budget,
                    "since": suspension.since,
                    "until": suspension.until,
                    "by": suspension.by,
                    "reason": suspension.reason,
                },
            )
            return _view(session.scalars(select(SuspensionRow).where(SuspensionRow.once == once)).one())

    def end(self, id_: int, by: str, reason: str, at: datetime) -> LoggedSuspension:
        """End a suspension early; the first end holds, and one that is over stays as it is."""
        with self._database.write() as session:
            row = session.get(SuspensionRow, id_)
            if row is None:
                raise LedgerRuleError(f"there is no suspension {id_} in the ledger at {self._database.place}")
            session.execute(
                update(SuspensionRow)
                .where(SuspensionRow.id == id_, SuspensionRow.ended_at.is_(None), SuspensionRow.until > at)
                .values(ended_at=at, ended_by=by, ended_reason=reason)
            )
            session.refresh(row)
            return _view(row)

    def get(self, id_: int) -> LoggedSuspension | None:
        """Return one suspension, None when it was never recorded."""
        with self._database.read() as session:
            row = session.get(SuspensionRow, id_)
            return None if row is None else _view(row)

    def ending_after(self, after: datetime | None = None) -> list[LoggedSuspension]:
        """Return the suspensions that end after ``after`` (None: all), in the order of recording."""
        query = select(SuspensionRow).order_by(SuspensionRow.id)
        if after is not None:
            query = query.where(func.coalesce(SuspensionRow.ended_at, SuspensionRow.until) > after)
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query)]

    def of(self, key: RolloutKey) -> list[LoggedSuspension]:
        """Return those that held at some time of a rollout, from its opening on."""
        rollout = Rollouts(self._database).get(key)
        if rollout is None:
            return []
        end = None if rollout.final is None else rollout.final.at
        return [
            one
            for one in self.ending_after(rollout.opened_at)
            if one.scope.includes(key, rollout.spec) and (end is None or one.suspension.since < end)
        ]


def _view(row: SuspensionRow) -> LoggedSuspension:
    return LoggedSuspension(
        id=row.id,
        scope=Scope(row.dag_id, row.run_id, row.name),
        suspension=Suspension(
            budget=row.budget,
            since=row.since,
            until=row.until if row.ended_at is None else min(row.until, row.ended_at),
            by=row.by,
            reason=row.reason,
        ),
        planned_until=row.until,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        ended_reason=row.ended_reason,
    )
