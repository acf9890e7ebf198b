"""Waiting until the commander is reminded of an open review, unless it is answered first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.common.ledger_sync import review_is_over
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

PAUSE_S = 2.0


class ReminderTrigger(BaseTrigger):
    """Fires once, when the ledger holds an answer or the rollout's end, or at ``until``.

    Its path and its arguments are persisted by Airflow: neither is renamed.
    """

    def __init__(
        self, *, dag_id: str, run_id: str, round_: int, until: str, deferred_at: str, **retired: Any
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.round_ = round_
        self.until = until
        self.deferred_at = deferred_at
        self.retired = retired

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        return (
            "rollback_budget.workflow.reminder.ReminderTrigger",
            {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "round_": self.round_,
                "until": self.until,
                "deferred_at": self.deferred_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Query the ledger now and then."""
        key, until = RolloutKey(self.dag_id, self.run_id), datetime.fromisoformat(self.until)
        is_over = False
        while not is_over and utc_now() < until:
            left = (until - utc_now()).total_seconds()
            await asyncio.sleep(max(min(PAUSE_S, left), 0))
            is_over = await asyncio.to_thread(review_is_over, key, self.round_)
        held = (utc_now() - datetime.fromisoformat(self.deferred_at)).total_seconds()
        await asyncio.sleep(max(HOLD_AFTER_DEFER.total_seconds() - held, 0))
        yield TriggerEvent({"is_over": is_over})
