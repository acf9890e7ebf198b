"""Breaches: each budget that was used up, appended once and never changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Select, select

from rollback_budget.engine.evaluation import Breach
from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_models import DebtEventRow
from rollback_budget.ledger.fingerprint import breach_fingerprint, debt_fingerprint
from rollback_budget.ledger.models import BreachRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import LoggedBreach


class Breaches(Repository):
    """The breaches in the ledger."""

    def log(self, key: RolloutKey, breaches: Sequence[Breach], at: datetime) -> list[str]:
        """Log breaches, each at most once however often and by however many it is called.

        :return: the breaches' fingerprints, in the order given.
        """
        with self._database.write() as session:
            rollout = rollout_row(self._database, session, key)
            fingerprints = []
            for breach in breaches:
                fingerprint = breach_fingerprint(key, breach.budget, breach.breached_at)
                insert_once(
                    session,
                    BreachRow,
                    {
                        "fingerprint": fingerprint,
                        "rollout_id": rollout.id,
                        "debt_fingerprint": debt_fingerprint(
                            rollout.service, breach.area, breach.metric, breach.comparison, breach.slice
                        ),
                        "budget": breach.budget,
                        "breached_at": breach.breached_at,
                        "logged_at": at,
                        "breach": breach.model_dump_json(),
                    },
                )
                fingerprints.append(fingerprint)
            return fingerprints

    def of(self, key: RolloutKey) -> list[LoggedBreach]:
        """Return the breaches of a rollout, earliest first."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            return [
                _logged(row, rollout)
                for row, rollout in session.execute(_all().where(BreachRow.rollout_id == rollout_id))
            ]

    def uncounted(self, fingerprints: Collection[str] | None = None) -> list[LoggedBreach]:
        """Return the breaches that no debt has counted yet, earliest first.

        :param fingerprints: look among these only; None looks among all.
        """
        query = (
            _all()
            .outerjoin(DebtEventRow, DebtEventRow.breach_fingerprint == BreachRow.fingerprint)
            .where(DebtEventRow.id.is_(None))
        )
        if fingerprints is not None:
            query = query.where(BreachRow.fingerprint.in_(fingerprints))
        with self._database.read() as session:
            return [_logged(row, rollout) for row, rollout in session.execute(query)]

    def of_debt(self, fingerprint: str, limit: int = 10) -> list[LoggedBreach]:
        """Return the newest breaches that a debt has counted, newest first."""
        query = (
            select(BreachRow, RolloutRow)
            .join(RolloutRow, RolloutRow.id == BreachRow.rollout_id)
            .join(DebtEventRow, DebtEventRow.breach_fingerprint == BreachRow.fingerprint)
            .where(DebtEventRow.debt_fingerprint == fingerprint)
            .order_by(BreachRow.breached_at.desc(), BreachRow.fingerprint)
            .limit(limit)
        )
        with self._database.read() as session:
            return [_logged(row, rollout) for row, rollout in session.execute(query)]

    def counted(self) -> list[LoggedBreach]:
        """Return every breach that a debt has counted, earliest first."""
        query = _all().join(DebtEventRow, DebtEventRow.breach_fingerprint == BreachRow.fingerprint)
        with self._database.read() as session:
            return [_logged(row, rollout) for row, rollout in session.execute(query)]


def _all() -> Select[BreachRow, RolloutRow]:
    return (
        select(BreachRow, RolloutRow)
        .join(RolloutRow, RolloutRow.id == BreachRow.rollout_id)
        .order_by(BreachRow.breached_at, BreachRow.fingerprint)
    )


def _logged(row: BreachRow, rollout: RolloutRow) -> LoggedBreach:
    return LoggedBreach(
        fingerprint=row.fingerprint,
        debt_fingerprint=row.debt_fingerprint,
        key=RolloutKey(rollout.dag_id, rollout.run_id),
        service=rollout.service,
        release=rollout.release,
        baseline=rollout.baseline,
        breach=Breach.model_validate_json(row.breach),
        logged_at=row.logged_at,
    )
