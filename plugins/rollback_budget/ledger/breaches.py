"""Evaluations and breaches: the evidence, appended and never changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Select, select

from rollback_budget.engine.evaluation import Breach, Evaluation
from rollback_budget.ledger.database import insert_once
from rollback_budget.ledger.debt_models import DebtEventRow
from rollback_budget.ledger.fingerprint import breach_fingerprint, debt_fingerprint
from rollback_budget.ledger.looks import Looks
from rollback_budget.ledger.models import BreachRow, EvaluationRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedBreach, LoggedEvaluation


class Breaches(Looks):
    """The evidence in the ledger. Every method raises LedgerError."""

    def record_evaluation(
        self, key: RolloutKey, round_: int, kind: str, evaluation: Evaluation, at: datetime
    ) -> None:
        """Append what a watch or a guard (``kind``) said in a round; the same verdict is written once."""
        with self.write() as session:
            insert_once(
                session,
                EvaluationRow,
                {
                    "rollout_id": self._row(session, key).id,
                    "round": round_,
                    "kind": kind,
                    "verdict": evaluation.verdict.value,
                    "evaluated_until": evaluation.evaluated_until,
                    "recorded_at": at,
                    "evaluation": evaluation.model_dump_json(),
                },
            )

    def evaluations(self, key: RolloutKey) -> list[LoggedEvaluation]:
        """Return what the watches and guards of a rollout said, in the order of recording."""
        with self.read() as session:
            recorded = (
                select(EvaluationRow)
                .where(EvaluationRow.rollout_id == self._row(session, key).id)
                .order_by(EvaluationRow.id)
            )
            return [
                LoggedEvaluation(
                    round=row.round,
                    kind=row.kind,
                    evaluation=Evaluation.model_validate_json(row.evaluation),
                    at=row.recorded_at,
                )
                for row in session.scalars(recorded)
            ]

    def log_breaches(self, key: RolloutKey, breaches: Sequence[Breach], at: datetime) -> list[str]:
        """Log breaches, each at most once however often and by however many it is called.

        :return: the breaches' fingerprints, in the order given.
        """
        with self.write() as session:
            rollout = self._row(session, key)
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

    def breaches(self, key: RolloutKey) -> list[LoggedBreach]:
        """Return the breaches of a rollout, earliest first."""
        with self.read() as session:
            rollout_id = self._row(session, key).id
            return [
                _logged(row, rollout)
                for row, rollout in session.execute(_all().where(BreachRow.rollout_id == rollout_id))
            ]

    def uncounted_breaches(self, fingerprints: Collection[str] | None = None) -> list[LoggedBreach]:
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
        with self.read() as session:
            return [_logged(row, rollout) for row, rollout in session.execute(query)]

    def debt_breaches(self, fingerprint: str, limit: int = 10) -> list[LoggedBreach]:
        """Return the newest breaches that a debt has counted, newest first."""
        query = (
            select(BreachRow, RolloutRow)
            .join(RolloutRow, RolloutRow.id == BreachRow.rollout_id)
            .join(DebtEventRow, DebtEventRow.breach_fingerprint == BreachRow.fingerprint)
            .where(DebtEventRow.debt_fingerprint == fingerprint)
            .order_by(BreachRow.breached_at.desc(), BreachRow.fingerprint)
            .limit(limit)
        )
        with self.read() as session:
            return [_logged(row, rollout) for row, rollout in session.execute(query)]

    def counted_breaches(self) -> list[LoggedBreach]:
        """Return every breach that a debt has counted, earliest first."""
        query = _all().join(DebtEventRow, DebtEventRow.breach_fingerprint == BreachRow.fingerprint)
        with self.read() as session:
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
