"""Folds what a watch has read, and records every look that the ledger does not have yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.evaluation import Evaluation
from rollback_budget.engine.fold import Fold
from rollback_budget.engine.frame import Frame, join_paces
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us, us_to_datetime
from rollback_budget.model.pace import paces_of
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
        #: How much later than a look of ``watch.settle`` one of the same time is decided, pace by pace.
        self._shifts = [duration_to_us(pace.shift) for pace in paces_of(plan.spec)]

    async def fold(self, fold: Fold, frame: Frame) -> Evaluation | None:
        """Fold the looks of ``frame`` that are new; return the verdict once it is reached."""
        if self._sink is not None and self._until is None:
            self._until = await self._sink.looks_until(self._plan)
        clocks = self._clocks(frame)
        if self._sink is None or self._until is None or not clocks:
            return fold.fold(frame)
        known = datetime_to_us(self._until)
        verdict = None
        if clocks[0] <= known:
            # A look of a slow metric may have been read after later ones of the others: it may be missing.
            verdict = fold.fold(self._part(frame, known), self._record, only_slow=True)
        rest = [clock for clock in clocks if clock > known]
        for end in (*rest[_CHUNK_SIZE - 1 : -1 : _CHUNK_SIZE], None):
            if verdict is not None:
                break
            verdict = fold.fold(frame if end is None else self._part(frame, end), self._record)
            if end is not None:
                await asyncio.sleep(0)
        return verdict

    def after_poll(self) -> None:
        """Record that the watch is alive; the time of a look is that of its data, which may lag."""
        if self._sink is not None:
            self._sink.alive(self._plan)

    def _clocks(self, frame: Frame) -> list[int]:
        """Return when the looks of ``frame`` are decided, as the time of a look of ``watch.settle``."""
        if not frame.others:
            return frame.times if not self._shifts[0] else [time + self._shifts[0] for time in frame.times]
        parts = zip(frame.paces, self._shifts, strict=True)
        return sorted({time + shift for part, shift in parts for time in part.times})

    def _part(self, frame: Frame, clock: int) -> Frame:
        """Return the looks that are decided when the clock shows ``clock``."""
        parts = zip(frame.paces, self._shifts, strict=True)
        return join_paces(
            [replace(part, end=min(part.end, clock - shift), others=()) for part, shift in parts]
        )

    def _record(self, time: int, snapshots: Sequence[BudgetSnapshot]) -> None:
        if self._sink is not None and snapshots:
            self._sink.record(self._plan, us_to_datetime(time), snapshots)
