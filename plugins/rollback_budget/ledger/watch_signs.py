"""Signs of life: what the ledger shows of who watches each rollout, read in one query for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import Repository, database_time
from rollback_budget.ledger.models import (
    DecisionRow,
    LookRow,
    ReviewRow,
    RollbackRow,
    RolloutRow,
    WatchHeartbeatRow,
    WatchLeaseRow,
)
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import named_row
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.ledger.watch_leases import WatchLease
from rollback_budget.model.duration import LONGEST
from rollback_budget.model.pace import longest_shift
from rollback_budget.model.spec import RolloutSpec

#: Nothing is expected of a rollout whose last look was due, or that was rolled back, longer ago.
LONGEST_AFTER = timedelta(days=1)
#: How a frozen spec writes that a metric comes late in its own way.
_HAS_LAG = '"lag":'


@dataclass(frozen=True, slots=True)
class WatchSigns:
    """What the ledger shows of who watches one rollout.

    :param final: the final decision; None while there is none.
    :param looked_at: of the newest look by a watch in Airflow, None when there is none.
    :param heartbeat_at: when its watch last polled without a look to record.
    :param review_deadline: of the newest review without an answer, None when there is none.
    :param answers: how many answers to reviews there are.
    :param lease: of a standby, also one that has run out.
    :param is_ours: whether a rollback is ours to request, and not a team's own operator's.
    :param now: by the clock of the database's host.
    """

    key: RolloutKey
    shipped_at: datetime
    window_end: datetime
    final: FinalDecision | None
    final_at: datetime | None
    looked_at: datetime | None
    heartbeat_at: datetime | None
    review_deadline: datetime | None
    answers: int
    lease: WatchLease | None
    now: datetime
    is_ours: bool = True

    @property
    def newest(self) -> datetime:
        """The newest sign of life of the watch in Airflow, at first that the release shipped."""
        known = (self.shipped_at, self.looked_at, self.heartbeat_at)
        return max(time for time in known if time is not None)

    @property
    def has_looked(self) -> bool:
        """Whether the watch in Airflow has given any sign of life."""
        return self.looked_at is not None or self.heartbeat_at is not None


class SignsOfLife(Repository):
    """Who watches the rollouts of the ledger."""

    def expected(self) -> list[WatchSigns]:
        """Return the signs of every rollout that has to be watched, or whose rollback has no outcome yet."""
        with self._database.read() as session:
            now = database_time(session)
            since = now - LONGEST_AFTER
            undecided = and_(
                RolloutRow.final_decision.is_(None),
                or_(
                    RolloutRow.window_end > since, RolloutRow.id.in_(_waiting_for_late_looks(session, since))
                ),
            )
            unsettled = and_(
                RolloutRow.final_decision == FinalDecision.ROLLED_BACK.value,
                RolloutRow.final_at > since,
                ~exists().where(RollbackRow.rollout_id == RolloutRow.id, RollbackRow.outcome.is_not(None)),
            )
            return _read(session, now, RolloutRow.shipped_at.is_not(None), or_(undecided, unsettled))

    def held(self, holder: str) -> list[WatchSigns]:
        """Return the signs of the rollouts whose lease a standby has, whatever has become of them."""
        with self._database.read() as session:
            return _read(session, database_time(session), WatchLeaseRow.holder == holder)

    def of(self, key: RolloutKey) -> WatchSigns | None:
        """Return the signs of one rollout, None when it never shipped."""
        with self._database.read() as session:
            row = session.scalar(named_row(key))
            if row is None or row.shipped_at is None:
                return None
            return _read(session, database_time(session), RolloutRow.id == row.id)[0]


def _waiting_for_late_looks(session: Session, since: datetime) -> list[int]:
    """Return the rollouts whose window ended by ``since``, and whose last look was due after that."""
    ended = select(RolloutRow.id, RolloutRow.window_end, RolloutRow.spec).where(
        RolloutRow.final_decision.is_(None),
        RolloutRow.window_end <= since,
        RolloutRow.window_end > since - LONGEST,
        RolloutRow.spec.contains(_HAS_LAG),
    )
    return [
        id_
        for id_, end, spec in session.execute(ended)
        if end is not None and end + _longest_shift(spec) > since
    ]


@lru_cache(maxsize=1000)
def _longest_shift(spec: str) -> timedelta:
    """Return how much later than that of ``watch.settle`` the last look of a frozen spec is decided."""
    try:
        return longest_shift(RolloutSpec.model_validate_json(spec))
    except ValidationError:
        # Nobody here can watch it, whatever its metrics are.
        return timedelta(0)


def _read(session: Session, now: datetime, *conditions: ColumnElement[bool]) -> list[WatchSigns]:
    return [
        WatchSigns(
            key=RolloutKey(row.dag_id, row.run_id),
            shipped_at=row.shipped_at,
            window_end=row.window_end,
            final=None if row.final_decision is None else FinalDecision(row.final_decision),
            final_at=row.final_at,
            looked_at=row.looked_at,
            heartbeat_at=row.heartbeat_at,
            review_deadline=row.review_deadline,
            answers=row.answers,
            lease=None
            if row.holder is None
            else WatchLease(row.holder, row.lease_taken_at, row.lease_until, now),
            now=now,
            is_ours=row.is_ours,
        )
        for row in session.execute(_query().where(*conditions).order_by(RolloutRow.id))
    ]


def _query() -> Select[*tuple[Any, ...]]:
    """Return the one query; each part of it ends at the first row of an index."""
    look = (
        select(LookRow.time)
        .where(LookRow.rollout_id == RolloutRow.id, LookRow.by.is_(None))
        .order_by(LookRow.time.desc())
        .limit(1)
    )
    answered = exists().where(
        DecisionRow.rollout_id == ReviewRow.rollout_id, DecisionRow.round == ReviewRow.round
    )
    review = (
        select(ReviewRow.deadline)
        .where(ReviewRow.rollout_id == RolloutRow.id, ~answered)
        .order_by(ReviewRow.round.desc())
        .limit(1)
    )
    answers = select(func.count(DecisionRow.id)).where(DecisionRow.rollout_id == RolloutRow.id)
    return (
        select(
            RolloutRow.dag_id,
            RolloutRow.run_id,
            RolloutRow.shipped_at,
            RolloutRow.window_end,
            RolloutRow.final_decision,
            RolloutRow.final_at,
            RolloutRow.rollback_terms.is_not(None).label("is_ours"),
            look.scalar_subquery().label("looked_at"),
            WatchHeartbeatRow.at.label("heartbeat_at"),
            review.scalar_subquery().label("review_deadline"),
            answers.scalar_subquery().label("answers"),
            WatchLeaseRow.holder,
            WatchLeaseRow.taken_at.label("lease_taken_at"),
            WatchLeaseRow.until.label("lease_until"),
        )
        .outerjoin(WatchHeartbeatRow, WatchHeartbeatRow.rollout_id == RolloutRow.id)
        .outerjoin(WatchLeaseRow, WatchLeaseRow.rollout_id == RolloutRow.id)
    )
