"""Folds what a watch has read, and records every look that the ledger does not have yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.fold import Fold
from rollback_budget.engine.frame import Frame
from rollback_budget.engine.time_us import datetime_to_us, us_to_datetime
from rollback_budget.watch.look_writer import LookSink
from rollback_budget.watch.watch_plan import WatchPlan

#: Looks that are recorded, in a few milliseconds, before other watches run.
_CHUNK_SIZE = 30


class LookRecorder:
    """Records the looks of one watch as they are folded.

    A watch that starts again replays its window; looks that the ledger has already are folded without
    recording, which is many times faster.

    :param sink: where looks go; None for nowhere.
    """

    def __init__(self, plan: WatchPlan, sink: LookSink | None) -> None:
        self._plan = plan
        self._sink = sink
        self._until: datetime | None = None

    async def fold(self, fold: Fold, frame: Frame) -> Evaluation | None:
        """Fold the looks of ``frame`` that are new; return the verdict once it is reached."""
        if self._sink is not None and self._until is None:
            self._until = await self._sink.looks_until(self._plan)
        if self._sink is None or self._until is None or not frame.times:
            return fold.fold(frame)
        known = min(datetime_to_us(self._until), frame.end)
        verdict = fold.fold(replace(frame, end=known)) if frame.times[0] <= known else None
        rest = [time for time in frame.times if time > known]
        for end in (*rest[_CHUNK_SIZE - 1 : -1 : _CHUNK_SIZE], frame.end):
            if verdict is not None:
                break
            verdict = fold.fold(replace(frame, end=end), self._record)
            if end != frame.end:
                await asyncio.sleep(0)
        return verdict

    def after_poll(self) -> None:
        """Record that the watch is alive; the time of a look is that of its data, which may lag."""
        if self._sink is not None:
            self._sink.alive(self._plan)

    def _record(self, time: int, snapshots: Sequence[BudgetSnapshot]) -> None:
        if self._sink is not None and snapshots:
            self._sink.record(self._plan, us_to_datetime(time), snapshots)
