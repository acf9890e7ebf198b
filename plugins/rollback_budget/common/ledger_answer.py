"""Answers that the ledger holds already: by `decide`, or by a standby, while Airflow was down."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rollback_budget.common.config import open_ledger
from rollback_budget.exceptions import LedgerError

if TYPE_CHECKING:
    from rollback_budget.clock import Log
    from rollback_budget.ledger.answers import Answer
    from rollback_budget.ledger.rollout_key import RolloutKey


def recorded_answer(key: RolloutKey, round_: int, log: Log) -> dict[str, Any] | None:
    """Return the ledger's answer to a round's review, as Airflow's resume event would bring it.

    None when there is none, or when the ledger cannot say.
    """
    try:
        answer = open_ledger().answers.of(key, round_)
    except LedgerError as error:
        log.warning("going on without the ledger: %s", error)
        return None
    return None if answer is None else event_of_answer(answer)


def event_of_answer(answer: Answer) -> dict[str, Any]:
    """Return an answer of the ledger as Airflow's resume event would bring it."""
    # Muted budgets are suspended in the ledger already.
    until = None if answer.until is None else answer.until.isoformat()
    return {
        "chosen_options": [answer.option],
        "params_input": {"reason": answer.reason, "until": until, "mute": False},
        "responded_at": answer.at.isoformat(),
        "responded_by_user": None if answer.by is None else {"id": answer.by, "name": answer.by},
    }


def recorded_deadline(key: RolloutKey, round_: int, log: Log) -> datetime | None:
    """Return the deadline of a round's review that is in the ledger; None when none is, or it cannot say."""
    try:
        reviews = open_ledger().reviews.of(key)
    except LedgerError as error:
        log.warning("going on without the ledger: %s", error)
        return None
    return next((review.deadline for review in reviews if review.round == round_), None)
