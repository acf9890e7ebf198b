"""A deadline that holds although the question could not be asked: every task may have to wait."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from rollback_budget.clock import utc_now
from rollback_budget.common import config
from rollback_budget.exceptions import LedgerError
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.decision import OnTimeout
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.triggers.on_verdict import request_rollback

log = logging.getLogger(__name__)

#: A question that opens just at its deadline is left to its own trigger.
MARGIN = timedelta(seconds=1)

_kept: set[asyncio.Task[None]] = set()


def keep_deadline(order: RollbackOrder, round_: int, deadline: datetime, reason: str) -> None:
    """Request the rollback at the deadline, unless the commander could be asked, or the rollout has ended.

    Runs beside the trigger that calls it, and goes on when that has fired. It is lost with its process: then
    the deadline holds once the tasks run, or a standby process keeps it.

    :param reason: why the question is asked.
    """
    task = asyncio.get_running_loop().create_task(_keep(order, round_, deadline, reason))
    _kept.add(task)
    task.add_done_callback(_kept.discard)


async def _keep(order: RollbackOrder, round_: int, deadline: datetime, reason: str) -> None:
    await asyncio.sleep(max((deadline + MARGIN - utc_now()).total_seconds(), 0))
    try:
        is_ours = await asyncio.to_thread(_is_unasked, order.rollout, round_)
    except LedgerError as error:
        log.warning("whether the commander was asked cannot be read: %s", error)
        return
    if is_ours:
        await request_rollback(order, "the deadline", reason, log)


def _is_unasked(key: RolloutKey, round_: int) -> bool:
    """Whether silence rolls back, and nobody could break it: the question is not open in Airflow."""
    ledger = config.open_ledger()
    review = next((one for one in ledger.reviews.of(key) if one.round == round_), None)
    if review is None or review.asked_at is not None or review.on_timeout is not OnTimeout.ROLLBACK:
        return False
    if any(decision.round == round_ for decision in ledger.decisions.of(key)):
        return False
    return ledger.final_decisions.of(key) is None
