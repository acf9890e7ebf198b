"""Evaluations: what watches and guards said, appended and never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import EvaluationRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import LoggedEvaluation


class Evaluations(Repository):
    """The evaluations in the ledger."""

    def add(self, key: RolloutKey, round_: int, kind: str, evaluation: Evaluation, at: datetime) -> None:
        """Append what a watch or a guard (``kind``) said in a round; the same verdict is written once."""
        with self._database.write() as session:
            insert_once(
                session,
                EvaluationRow,
                {
                    "rollout_id": rollout_row(self._database, session, key).id,
                    "round": round_,
                    "kind": kind,
                    "verdict": evaluation.verdict.value,
                    "evaluated_until": evaluation.evaluated_until,
                    "recorded_at": at,
                    "evaluation": evaluation.model_dump_json(),
                },
            )

    def of(self, key: RolloutKey) -> list[LoggedEvaluation]:
        """Return what the watches and guards of a rollout said, in the order of recording."""
        with self._database.read() as session:
            recorded = (
                select(EvaluationRow)
                .where(EvaluationRow.rollout_id == rollout_row(self._database, session, key).id)
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
