"""A deadline that holds although the question could not be asked: every task may have to wait."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from rollback_budget.clock import utc_now
from rollback_budget.common import config
from rollback_budget.exceptions import LedgerError
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.choice import SILENCE
from rollback_budget.model.decision import OnTimeout
from rollback_budget.rollback.bounded_call import call_within
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.triggers.on_verdict import request_rollback
from rollback_budget.triggers.threads import Lookup

log = logging.getLogger(__name__)

#: A question that opens just at its deadline is left to its own trigger.
MARGIN = timedelta(seconds=1)
#: How long ledger and Airflow may take to say whether it is open.
ASK_WAIT = timedelta(seconds=4)
#: While the ledger cannot say, it is asked again after this time, and for so long.
AGAIN_AFTER = timedelta(seconds=5)
KEEP_ON = timedelta(minutes=30)
#: States of a task that has asked its question.
_HAS_ASKED = ("deferred", "success", "failed", "skipped")

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
    give_up = deadline + KEEP_ON
    while (
        is_ours := await Lookup.in_thread(lambda: _is_unasked(order.rollout, round_)).answer(ASK_WAIT)
    ) is None:
        if utc_now() > give_up:
            log.error("%s: whether the commander was asked cannot be read, nothing is done", order.rollout)
            return
        await asyncio.sleep(AGAIN_AFTER.total_seconds())
    if is_ours:
        await request_rollback(order, SILENCE, reason, log)


def _is_unasked(key: RolloutKey, round_: int) -> bool | None:
    """Whether silence rolls back, and nobody could break it: the question is not open in Airflow.

    None while the ledger cannot say.
    """
    ledger = config.open_ledger()
    try:
        review = next((one for one in ledger.reviews.of(key) if one.round == round_), None)
        if review is None or review.asked_at is not None or review.on_timeout is not OnTimeout.ROLLBACK:
            return False
        if any(decision.round == round_ for decision in ledger.decisions.of(key)):
            return False
        if ledger.final_decisions.of(key) is not None:
            return False
    except LedgerError as error:
        log.warning("%s: whether the commander was asked cannot be read: %s", key, error)
        return None
    # The question's own task says in the ledger that it asks; the ledger may have been away just then.
    return not _has_asked(key, f"round_{round_}.review")


def _has_asked(key: RolloutKey, task_id: str) -> bool:
    """Whether Airflow says that a task of this rollout has asked its question; False when it cannot say."""

    def state() -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        states = RuntimeTaskInstance.get_task_states(dag_id=key.dag_id, run_ids=[key.run_id])
        of_run = states.get(key.run_id, {})
        return next((found for name, found in of_run.items() if name.endswith(task_id)), None)

    try:
        return call_within(ASK_WAIT / 2, state) in _HAS_ASKED
    except Exception as error:
        log.warning("%s: Airflow does not say whether the commander was asked: %s", key, error)
        return False
