"""Finding the answer that a review has already, before it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import Log, utc_now
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

#: Calls from a trigger to its supervisor may never return.
ANSWER_TIMEOUT = timedelta(seconds=20)


class PriorAnswerTrigger(BaseTrigger):
    """Reads what Airflow holds for a review, and fires once with ``{"answer": …}`` (None: nothing).

    An answer that comes within seconds of the question makes Airflow fail that try of the task; the next try
    would ask again and wipe the answer. A worker cannot read it, a trigger can.

    :param ti_id: id of the review's task instance.
    :param deferred_at: when the task deferred, ISO 8601.
    """

    def __init__(self, *, ti_id: str, deferred_at: str, **retired: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ti_id = ti_id
        self.deferred_at = deferred_at
        self.retired = retired

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        return (
            "rollback_budget.workflow.prior_answer.PriorAnswerTrigger",
            {"ti_id": self.ti_id, "deferred_at": self.deferred_at},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look once."""
        answer = await read_answer(self.ti_id, self.log)
        since = utc_now() - datetime.fromisoformat(self.deferred_at)
        await asyncio.sleep(max((HOLD_AFTER_DEFER - since).total_seconds(), 0))
        yield TriggerEvent({"answer": answer})


async def read_answer(ti_id: str, log: Log) -> dict[str, Any] | None:
    """Return the answer that Airflow holds for a review as its resume event would; None when it has none."""
    from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

    try:
        async with asyncio.timeout(ANSWER_TIMEOUT.total_seconds()):
            detail = await asyncio.to_thread(get_hitl_detail_content_detail, UUID(ti_id))
    except Exception as error:
        # Nothing was asked yet, or Airflow cannot say.
        log.info("no earlier answer could be read: %s", error)
        return None
    if not detail.response_received or not detail.chosen_options or detail.responded_at is None:
        return None
    user = detail.responded_by_user
    return {
        "chosen_options": list(detail.chosen_options),
        "params_input": detail.params_input or {},
        "responded_at": detail.responded_at.isoformat(),
        "responded_by_user": None if user is None else {"id": user.id, "name": user.name},
    }
