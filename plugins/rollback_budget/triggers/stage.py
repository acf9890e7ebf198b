"""Waiting for a rollout's next stage, in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER

#: How often the ledger is queried whether the rollout has ended.
LOOK_FOR_THE_END = timedelta(seconds=15)


class StageTrigger(BaseTrigger):
    """Fires once, at ``until`` or soon after the rollout has ended.

    Its path and its arguments are persisted by Airflow: neither is renamed, older arguments stay accepted.

    :param dag_id: with ``run_id``, the rollout's key in the ledger.
    :param until: when to look again, ISO 8601.
    :param deferred_at: when the task deferred, ISO 8601.
    """

    def __init__(self, *, dag_id: str, run_id: str, until: str, deferred_at: str, **retired: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.until = until
        self.deferred_at = deferred_at
        self.retired = retired

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        return (
            "rollback_budget.workflow.stage_trigger.StageTrigger",
            {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "until": self.until,
                "deferred_at": self.deferred_at,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; a restart anywhere waits for the rest."""
        from rollback_budget.common.ledger_sync import final_if_known

        until = max(
            datetime.fromisoformat(self.until), datetime.fromisoformat(self.deferred_at) + HOLD_AFTER_DEFER
        )
        key = RolloutKey(self.dag_id, self.run_id)
        while (rest := (until - utc_now()).total_seconds()) > 0:
            await asyncio.sleep(min(rest, LOOK_FOR_THE_END.total_seconds()))
            if await asyncio.to_thread(final_if_known, key, self.log) is not None:
                break
        rest = (datetime.fromisoformat(self.deferred_at) + HOLD_AFTER_DEFER - utc_now()).total_seconds()
        await asyncio.sleep(max(rest, 0))
        yield TriggerEvent({"until": self.until})
