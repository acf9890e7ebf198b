"""From what Airflow brings of an answer to what the tasks and the ledger keep of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rollback_budget.common.commander_response import Choice, read_response
from rollback_budget.common.xcom import ReviewAnswer


def answer_of(
    event: dict[str, Any], *, round_: int, budgets: Sequence[str], window_end: datetime
) -> ReviewAnswer:
    """Return the answer to a round's question.

    :param event: the payload of Airflow's resume event, or of the review's trigger.
    :param budgets: the budgets that the question was about.
    :raises InvalidResponseError: it cannot be followed.
    """
    response = read_response(event, window_end)
    closed = event.get("closed")
    return ReviewAnswer(
        round_=round_,
        option=response.choice.value,
        go_on=response.choice is Choice.GO_ON,
        by=response.by if closed is None else closed["by"],
        reason=response.reason if closed is None else f"closed without an answer: {closed['reason']}",
        at=response.at,
        budgets=tuple(budgets),
        until=response.until,
        mute=response.mute,
        promote=response.choice is Choice.PROMOTE,
    )
