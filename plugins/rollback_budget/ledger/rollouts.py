"""Rollouts: the frozen spec, and when it shipped."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import and_, or_, select, text, update
from sqlalchemy.orm import Session

from rollback_budget.exceptions import UnreadableSpecError
from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import RollbackRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import among, batches, final_of, named_row, rollout_row
from rollback_budget.ledger.views import FinalDecision, Rollout
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.rollback_terms import RollbackTerms

log = logging.getLogger(__name__)

#: A rollout that began longer ago holds its service no more, whatever became of it.
LONGEST_CLAIM = timedelta(days=90)
_CLAIMS = 72_094
#: Databases limit the values of one statement.
_KEYS = 400
#: After these, nothing of this rollout moves traffic any more.
_SETTLED = (Outcome.EFFECTIVE.value, Outcome.SUPERSEDED.value)


class Rollouts(Repository):
    """The rollouts of the ledger."""

    def open(self, key: RolloutKey, spec: RolloutSpec, at: datetime) -> RolloutSpec:
        """Freeze ``spec`` for this rollout and return what holds: the first spec ever frozen wins."""
        with self._database.write() as session:
            _open(session, key, spec, at)
            return _view(rollout_row(self._database, session, key)).spec

    def claim_service(
        self, key: RolloutKey, spec: RolloutSpec, at: datetime, ended: Collection[RolloutKey] = ()
    ) -> list[Rollout]:
        """Open this rollout if no other one of its service is under way; return those that are.

        A rollout is under way until it is promoted, or its rollback is settled. Of several at once, one wins.

        :param ended: rollouts that are known to have ended some other way, and do not count.
        """
        with self._database.write() as session:
            if session.connection().dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:space, hashtext(:service))")
                session.execute(lock, {"space": _CLAIMS, "service": spec.service})
            others = _under_way(session, spec.service, at)
            blocking = [other for other in others if other.key != key and other.key not in ended]
            if not blocking:
                _open(session, key, spec, at)
            return blocking

    def under_way(self, key: RolloutKey, spec: RolloutSpec, at: datetime) -> list[Rollout]:
        """Return the other rollouts of this service that are under way, and claim nothing."""
        with self._database.read() as session:
            return [other for other in _under_way(session, spec.service, at) if other.key != key]

    def record_shipped(
        self, key: RolloutKey, at: datetime, window_end: datetime, terms: RollbackTerms | None = None
    ) -> tuple[datetime, datetime]:
        """Store when the release shipped and until when it is watched; the first call wins.

        :param terms: how we may move its traffic back; None when a team's own operator does.
        :return: what is stored, ``(shipped_at, window_end)``.
        """
        with self._database.write() as session:
            row = rollout_row(self._database, session, key)
            session.execute(
                update(RolloutRow)
                .where(RolloutRow.id == row.id, RolloutRow.shipped_at.is_(None))
                .values(
                    shipped_at=at,
                    window_end=window_end,
                    rollback_terms=None if terms is None else terms.model_dump_json(),
                )
            )
            session.refresh(row)
            assert row.shipped_at is not None
            assert row.window_end is not None
            return row.shipped_at, row.window_end

    def get(self, key: RolloutKey) -> Rollout | None:
        """Return one rollout, None when it was never opened."""
        with self._database.read() as session:
            row = session.scalar(named_row(key))
            return None if row is None else _view(row)

    def many(self, keys: Collection[RolloutKey]) -> list[Rollout]:
        """Return those of these rollouts whose budget can be read here."""
        with self._database.read() as session:
            return [
                view
                for some in batches(keys, _KEYS)
                for view in _views(session.scalars(select(RolloutRow).where(among(some))))
            ]

    def newest(self, limit: int = 100) -> list[Rollout]:
        """Return the newest rollouts, newest first."""
        with self._database.read() as session:
            newest = select(RolloutRow).order_by(RolloutRow.opened_at.desc(), RolloutRow.id.desc())
            return _views(session.scalars(newest.limit(limit)))

    def opened_since(self, after: datetime | None, service: str | None = None) -> list[RolloutKey]:
        """Return the rollouts that were opened after a time (None: all), oldest first.

        :param service: only those of this service.
        """
        query = select(RolloutRow.dag_id, RolloutRow.run_id).order_by(RolloutRow.opened_at, RolloutRow.id)
        if after is not None:
            query = query.where(RolloutRow.opened_at > after)
        if service is not None:
            query = query.where(RolloutRow.service == service)
        with self._database.read() as session:
            return [RolloutKey(dag_id, run_id) for dag_id, run_id in session.execute(query)]

    def named(self, name: str) -> list[Rollout]:
        """Return the rollouts whose release, service, DAG or run has this name, newest first."""
        columns = (RolloutRow.release, RolloutRow.service, RolloutRow.dag_id, RolloutRow.run_id)
        newest = select(RolloutRow).order_by(RolloutRow.opened_at.desc(), RolloutRow.id.desc())
        with self._database.read() as session:
            found = session.scalars(newest.where(or_(*(column == name for column in columns))))
            return _views(found)

    def newest_of(self, service: str, at: datetime) -> Rollout | None:
        """Return the rollout of a service that was opened last, by ``at``; None when there is none."""
        newest = select(RolloutRow).order_by(RolloutRow.opened_at.desc(), RolloutRow.id.desc()).limit(1)
        with self._database.read() as session:
            opened = (RolloutRow.service == service, RolloutRow.opened_at <= at)
            return next(iter(_views(session.scalars(newest.where(*opened)))), None)

    def undecided(self, ended_after: datetime) -> list[Rollout]:
        """Return the rollouts without a final decision, and those that got one after a time, newest first."""
        newest = select(RolloutRow).order_by(RolloutRow.opened_at.desc(), RolloutRow.id.desc())
        alive = RolloutRow.final_at.is_(None) | (RolloutRow.final_at > ended_after)
        with self._database.read() as session:
            return _views(session.scalars(newest.where(alive)))

    def ended(self, after: datetime) -> list[RolloutKey]:
        """Return the rollouts that got their final decision after a time."""
        ended = select(RolloutRow.dag_id, RolloutRow.run_id).where(RolloutRow.final_at > after)
        with self._database.read() as session:
            return [RolloutKey(dag_id, run_id) for dag_id, run_id in session.execute(ended)]


def _open(session: Session, key: RolloutKey, spec: RolloutSpec, at: datetime) -> None:
    insert_once(
        session,
        RolloutRow,
        {
            "dag_id": key.dag_id,
            "run_id": key.run_id,
            "service": spec.service,
            "release": spec.release,
            "baseline": spec.baseline,
            "spec": spec.canonical_json(),
            "spec_sha256": spec.sha256,
            "opened_at": at,
        },
    )


def _views(rows: Iterable[RolloutRow]) -> list[Rollout]:
    """Return the rollouts of a list; what cannot be read here is said in the log, and hides no other one."""
    views = []
    for row in rows:
        try:
            views.append(_view(row))
        except UnreadableSpecError as error:
            log.error("left out: %s", error)
    return views


def _under_way(session: Session, service: str, at: datetime) -> list[Rollout]:
    settled = select(RollbackRow.rollout_id).where(RollbackRow.outcome.in_(_SETTLED))
    under_way = select(RolloutRow).where(
        RolloutRow.service == service,
        RolloutRow.opened_at > at - LONGEST_CLAIM,
        or_(
            RolloutRow.final_decision.is_(None),
            and_(
                RolloutRow.final_decision == FinalDecision.ROLLED_BACK.value,
                RolloutRow.id.not_in(settled),
            ),
        ),
    )
    return [_view(row) for row in session.scalars(under_way)]


def _view(row: RolloutRow) -> Rollout:
    key = RolloutKey(row.dag_id, row.run_id)
    try:
        spec = RolloutSpec.model_validate_json(row.spec)
    except ValidationError as error:
        raise UnreadableSpecError(
            f"the budget that rollout {key} froze cannot be read here: {error.errors()[0]['msg']}. Install"
            " the package that brings its source or target, in the version that froze it"
        ) from error
    return Rollout(
        key=key,
        spec=spec,
        opened_at=row.opened_at,
        shipped_at=row.shipped_at,
        window_end=row.window_end,
        final=final_of(row),
        terms=None if row.rollback_terms is None else RollbackTerms.model_validate_json(row.rollback_terms),
    )
