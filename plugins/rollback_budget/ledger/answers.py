"""Answers to reviews that come through the ledger: one for each round, with all that follows from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.models import DecisionRow, OverrideRow, RolloutRow, SuspensionRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.model.choice import SILENCE


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a round's review.

    :param option: as it stands on the commander's button.
    :param by: the commander; None when the deadline decided.
    :param until: until when an override holds; None unless it is one.
    :param budgets: what the question was about, and an override restarts.
    :param mute: whether these budgets are suspended until then.
    """

    round: int
    option: str
    by: str | None
    reason: str | None
    at: datetime
    until: datetime | None = None
    budgets: tuple[str, ...] = ()
    mute: bool = False

    @property
    def author(self) -> str:
        """Return who decided, in words."""
        return self.by or SILENCE


class Answers(Repository):
    """The answers in the ledger, with the overrides and suspensions that they make."""

    def take(self, key: RolloutKey, answer: Answer) -> Answer:
        """Answer a round's review unless it is answered; return what holds, perhaps an earlier answer.

        In one transaction, so that no answer stands without its override.
        """
        with self._database.write() as session:
            rollout_id = rollout_row(self._database, session, key).id
            # One at a time: who comes second finds the first.
            session.get_one(RolloutRow, rollout_id, with_for_update=True, populate_existing=True)
            earlier = _answer(session, rollout_id, answer.round)
            if earlier is not None:
                return earlier
            _write(session, rollout_id, key, answer)
            return answer

    def of(self, key: RolloutKey, round_: int) -> Answer | None:
        """Return the answer to a round's review, None when there is none."""
        with self._database.read() as session:
            return _answer(session, rollout_row(self._database, session, key).id, round_)


def _answer(session: Session, rollout_id: int, round_: int) -> Answer | None:
    decision = session.scalars(
        select(DecisionRow)
        .where(DecisionRow.rollout_id == rollout_id, DecisionRow.round == round_)
        .order_by(DecisionRow.at, DecisionRow.id)
    ).first()
    if decision is None:
        return None
    override = session.scalars(
        select(OverrideRow).where(
            OverrideRow.rollout_id == rollout_id,
            OverrideRow.round == round_,
            OverrideRow.at == decision.at,
        )
    ).first()
    return Answer(
        round=decision.round,
        option=decision.option,
        by=decision.by,
        reason=decision.reason,
        at=decision.at,
        until=None if override is None else override.until,
        budgets=() if override is None else tuple(json.loads(override.budget_ids)),
    )


def _write(session: Session, rollout_id: int, key: RolloutKey, answer: Answer) -> None:
    insert_once(
        session,
        DecisionRow,
        {
            "rollout_id": rollout_id,
            "round": answer.round,
            "option": answer.option,
            "by": answer.by,
            "reason": answer.reason,
            "at": answer.at,
            "timed_out": answer.by is None,
        },
    )
    if answer.until is None:
        return
    insert_once(
        session,
        OverrideRow,
        {
            "rollout_id": rollout_id,
            "round": answer.round,
            "budget_ids": json.dumps(answer.budgets),
            "by": answer.author,
            "reason": answer.reason or "",
            "at": answer.at,
            "until": answer.until,
        },
    )
    for budget in answer.budgets if answer.mute else ():
        insert_once(
            session,
            SuspensionRow,
            {
                "once": f"{key}/round_{answer.round}/{budget}/{answer.at.isoformat()}",
                "dag_id": key.dag_id,
                "run_id": key.run_id,
                "name": None,
                "budget": budget,
                "since": answer.at,
                "until": answer.until,
                "by": answer.author,
                "reason": answer.reason or "",
            },
        )
