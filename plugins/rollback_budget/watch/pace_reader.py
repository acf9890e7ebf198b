"""Reading the series of one pace: up to where they are read, and what came late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from rollback_budget.clock import Log, Now, grid_floor
from rollback_budget.engine.frame import Frame, pace_frame
from rollback_budget.engine.late_data import LateLook
from rollback_budget.engine.sample import Sample
from rollback_budget.model.pace import Pace, series_of
from rollback_budget.sources.base import SeriesRequest, Source, is_watermarked
from rollback_budget.watch.late_samples import LateSamples
from rollback_budget.watch.watch_plan import WatchPlan

#: Steps per read: a replay neither blocks other watches nor holds a whole day in memory.
MAX_STEPS = 360


class Reading(NamedTuple):
    """What a source had.

    :param until: up to where everything is in.
    """

    until: datetime
    samples: Sequence[Sample]


class PaceReader:
    """Reads the series of one pace of a watch.

    "The clock" is the time up to which looks of ``watch.settle`` are decided; those of this pace are decided
    ``pace.shift`` later.
    """

    def __init__(self, plan: WatchPlan, pace: Pace, log: Log, now: Now) -> None:
        spec = plan.spec
        self.pace = pace
        self.read_until = grid_floor(plan.window_start, pace.every)
        self.late = LateSamples(spec, self.read_until, log, now, f"{plan.rollout}", step=pace.every)
        #: Whether it has seen everything up to the present once.
        self.has_caught_up = False
        self._spec = spec
        self.series = series_of(spec, pace)
        self._end = grid_floor(plan.window_end, pace.every)

    def horizon(self, clock: datetime) -> datetime:
        """Return up to where looks are decided when the clock shows ``clock``."""
        return min(grid_floor(clock - self.pace.shift, self.pace.every), self._end)

    def is_last(self, clock: datetime) -> bool:
        """Whether the last look of the window is decided when the clock shows ``clock``."""
        return self.horizon(clock) == self._end

    def is_due(self, clock: datetime) -> bool:
        """Whether there are looks to read."""
        return self.read_until < self.horizon(clock)

    def end_of_chunk(self) -> datetime:
        """Return what the clock shows where the next read should end.

        It is the same for every watch, so that replays can be read together.
        """
        chunk = MAX_STEPS * self.pace.every
        return grid_floor(self.read_until, chunk) + chunk + self.pace.shift

    def overdue(self, now: datetime) -> timedelta:
        """Return for how long what comes next could have been read."""
        longer = max(self.pace.every - self._spec.watch.step, timedelta(0))
        return now - self.pace.lag - longer - self.read_until

    async def read(self, source: Source, horizon: datetime) -> Reading:
        """Return the samples up to where everything is in, at most ``horizon``.

        :raises SourceError: the source does not answer.
        """
        settled = horizon
        if is_watermarked(source):
            until = await source.settled_until()
            settled = self.read_until if until is None else min(horizon, grid_floor(until, self.pace.every))
        if settled <= self.read_until:
            return Reading(self.read_until, ())
        request = self.request(self.late.reread_from(self.read_until), settled)
        return Reading(settled, await source.fetch(request))

    def frame(self, reading: Reading) -> Frame:
        """Lay out a reading; raises SeriesError."""
        begin = self.late.reread_from(self.read_until)
        return self._frame(reading.samples, begin, reading.until, strict=False)

    def nothing_new(self) -> Frame:
        """Return a frame in which nothing is new."""
        return self._frame((), self.read_until, self.read_until)

    def unseen(self, clock: datetime) -> Frame:
        """Return the looks that could not be read, as unknown."""
        return self._frame((), self.read_until, max(self.horizon(clock), self.read_until))

    def advance(self, reading: Reading) -> Sequence[LateLook]:
        """Go on behind a reading that is folded; return the looks that are no longer what they were."""
        looks = self.late.notice(reading.samples, reading.until)
        self.read_until = reading.until
        return looks

    def request(self, start: datetime, end: datetime) -> SeriesRequest:
        """Return the question for the looks from ``start`` to ``end``."""
        spec = self._spec
        return SeriesRequest(self.series, spec.release, spec.baseline, start, end, self.pace.every)

    def _frame(
        self, samples: Sequence[Sample], start: datetime, end: datetime, *, strict: bool = True
    ) -> Frame:
        return pace_frame(
            self._spec, self.series, samples, start=start, end=end, step=self.pace.every, strict=strict
        )
