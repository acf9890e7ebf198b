"""The trigger of a watch: one per rollout, in the triggerer, no worker slot while waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rollback_budget.clock import utc_now
from rollback_budget.common.watch_process import (
    process_finished_rollouts,
    process_look_writer,
    process_suspension_cache,
)
from rollback_budget.model.interning import share
from rollback_budget.sources.base import OpenSource
from rollback_budget.triggers.deadline import keep_deadline
from rollback_budget.triggers.on_verdict import act_on_verdict, finish_rollback, prepare_rollback
from rollback_budget.watch.gc_freeze import process_gc_freeze
from rollback_budget.watch.watch_plan import HOLD_AFTER_DEFER, Role, WatchPlan
from rollback_budget.watch.watcher import Watcher


class RollbackBudgetTrigger(BaseTrigger):
    """Watches a rollout until its verdict, acts on it, and fires once with ``{"evaluation": …}``.

    Where the target is ours, a rollback is requested before the event goes out, and before it is held back:
    no task has to start for it.

    Its path and its arguments are persisted by Airflow: they outlive an upgrade, so neither is renamed, and
    arguments of older versions stay accepted.

    :param plan: a :class:`~rollback_budget.watch.watch_plan.WatchPlan` as JSON.
    :param deferred_at: when the task deferred, ISO 8601.
    """

    def __init__(self, *, plan: str, deferred_at: str, **retired: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.plan = plan
        self.deferred_at = deferred_at
        self.retired = retired

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the arguments that rebuild this trigger elsewhere."""
        return (
            "rollback_budget.workflow.trigger.RollbackBudgetTrigger",
            {"plan": self.plan, "deferred_at": self.deferred_at},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is a verdict; a restart anywhere replays the window and goes on."""
        async with _startup_slot():
            plan = _read(self.plan)
            watcher = Watcher(
                plan,
                _open_source(),
                log=self.log,
                suspensions=process_suspension_cache(),
                looks=process_look_writer(),
                elapsed=time.monotonic,
            )
            process_gc_freeze().count_watch()
        ours = None if plan.order is None else plan.spec
        ahead = None if plan.rollout is None else asyncio.ensure_future(prepare_rollback(ours, self.log))
        evaluation = await watcher.look()
        process_gc_freeze().count_watch()
        while not (evaluation is not None or watcher.is_over or await _is_pointless(plan)):
            await asyncio.sleep(watcher.seconds_to_next_look())
            evaluation = await watcher.look()
        event: dict[str, Any] = {"evaluation": None}
        if evaluation is not None:
            self.log.info("the verdict is %s: %s", evaluation.verdict.value, evaluation.sentence)
            acted = await act_on_verdict(plan, evaluation, self.log)
            event = {"evaluation": evaluation.model_dump(mode="json"), **acted}
            if acted["deadline"] is not None and plan.order is not None:
                deadline = datetime.fromisoformat(acted["deadline"])
                keep_deadline(plan.order, plan.round_, deadline, evaluation.sentence)
        elif plan.order is not None:
            await finish_rollback(plan.order, self.log)
        if ahead is not None:
            ahead.cancel()
        await self._hold()
        yield TriggerEvent(event)

    async def _hold(self) -> None:
        since = max(utc_now() - datetime.fromisoformat(self.deferred_at), timedelta(0))
        await asyncio.sleep(max((HOLD_AFTER_DEFER - since).total_seconds(), 0))


def _read(text: str) -> WatchPlan:
    """Return the plan with what other watches say, too, held once; nothing else of it is kept."""
    plan = WatchPlan.model_validate_json(text)
    return plan.model_copy(update={"spec": share(plan.spec)})


async def _is_pointless(plan: WatchPlan) -> bool:
    """Whether the rollout has ended, or a guard's commander has answered."""
    if plan.role is not Role.GUARD:
        return process_finished_rollouts()(plan)
    if plan.rollout is None:
        return False
    from rollback_budget.common.ledger_sync import review_is_over

    return await asyncio.to_thread(review_is_over, plan.rollout, plan.round_)


def _open_source() -> OpenSource:
    # Hooks are imported where they are used, in the triggerer, and not while DAGs are parsed.
    from rollback_budget.hooks.metric_source import open_shared_source

    return open_shared_source


_startup_semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@asynccontextmanager
async def _startup_slot() -> AsyncIterator[None]:
    """Let one watch of this event loop start, of thousands that may be due; other tasks run in between."""
    async with _startup_semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(1)):
        yield
        await asyncio.sleep(0)
