"""The watcher, for the trigger and for the sensor: look, fold what is new, return the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from rollback_budget.clock import EPOCH, Elapsed, Log, Now, SteadyClock, grid_floor, utc_now
from rollback_budget.engine.evaluation import Blind, Evaluation, VerdictKind
from rollback_budget.engine.fold import Fold, Restart, Window
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.model.budget import Tier
from rollback_budget.model.watch_settings import OnBlind
from rollback_budget.sources.base import OpenSource, SeriesRequest, Source, is_watermarked
from rollback_budget.sources.resilience.coalescing import is_paced
from rollback_budget.watch.late_samples import LateSamples
from rollback_budget.watch.look_recorder import LookRecorder
from rollback_budget.watch.look_writer import LookSink
from rollback_budget.watch.suspension_cache import SuspensionLookup
from rollback_budget.watch.task_log import TaskLog
from rollback_budget.watch.watch_plan import Role, WatchPlan

#: A look waits no longer for its source, the queue included; sources have time-outs of their own.
LOOK_TIMEOUT = timedelta(minutes=5)
#: Steps per read: a replay neither blocks other watches nor holds a whole day in memory.
MAX_STEPS = 360


class Watcher:
    """Follows one rollout from its window's start; the first look replays whatever has happened already.

    Nothing of it needs to survive a crash: a new watcher arrives at the same verdict.

    :param plan: what to watch.
    :param open_source: opens the metric source; called again until it succeeds.
    :param suspensions: returns the suspensions of the rollout; None for none.
    :param looks: where every look goes; None for nowhere.
    :param now: the clock.
    :param elapsed: a monotonic clock, to notice when ``now`` is set; None when that cannot happen.
    :param seen_until: returns up to where an earlier process saw the metrics; for a watch whose every look is
        a process of its own, which could not know else for how long its source has been away.
    """

    def __init__(
        self,
        plan: WatchPlan,
        open_source: OpenSource,
        *,
        log: Log,
        suspensions: SuspensionLookup | None = None,
        looks: LookSink | None = None,
        now: Now = utc_now,
        elapsed: Elapsed | None = None,
        seen_until: Callable[[], datetime | None] | None = None,
    ) -> None:
        spec = plan.spec
        self._plan = plan
        self._spec = spec
        self._open_source = open_source
        self._log = log
        self._suspensions = suspensions
        self._clock = SteadyClock(now, elapsed, log)
        self._now = self._clock.now
        self._seen_until = seen_until
        self._source: Source | None = None
        self._task_log = TaskLog(plan, log, self._now)
        self._series = tuple(sorted({budget.series for budget in spec.budgets}))
        guard = plan.role is Role.GUARD
        self._end = grid_floor(plan.window_end, spec.watch.step)
        self._fold = Fold(
            spec,
            Window(plan.window_start, self._end),
            restarts=_restarts(plan),
            tiers=frozenset({Tier.A}) if guard else None,
            watch_blind=not guard,
        )
        self._read_until = grid_floor(plan.window_start, spec.watch.step)
        self._late = LateSamples(spec, self._read_until, log, self._now, f"{plan.rollout}")
        self._look_recorder = LookRecorder(plan, looks)
        self._began = self._now()
        self._has_caught_up = False

    async def look(self) -> Evaluation | None:
        """Read and fold what has settled since the last look; return the verdict once there is one.

        A source that fails makes the look unknown and is queried for the same range again next time.
        """
        verdict = await self._look()
        self._task_log.after_look(self._fold, self._read_until)
        self._look_recorder.after_poll()
        return verdict

    async def _look(self) -> Evaluation | None:
        horizon = self._horizon()
        if self._read_until < horizon:
            await self._update_suspensions(horizon)
        while self._read_until < horizon:
            before = self._read_until
            verdict = await self._look_until(min(horizon, self._end_of_chunk()))
            if verdict is not None or self._read_until == before:
                return verdict
            self._has_caught_up |= self._read_until == horizon
        await self._check_clock()
        return None

    async def _look_until(self, horizon: datetime) -> Evaluation | None:
        try:
            settled, samples = await self._fetch(horizon)
            begin = self._late.reread_from(self._read_until)
            frame = frame_of(self._spec, samples, start=begin, end=settled, strict=False)
        except (SourceError, SeriesError) as error:
            self._task_log.on_source_error(str(error))
            return self._late.add_to(self._evaluate_unread(self._horizon()))
        lags = horizon - settled > self._spec.watch.max_gap
        self._task_log.on_source_error(
            "the newest rows have not arrived yet, by the source's watermark" if lags else None
        )
        verdict = None
        if settled > self._read_until:
            verdict = await self._look_recorder.fold(self._fold, frame)
            self._fold.add_late(self._late.notice(samples, settled))
            self._read_until = settled
        if verdict is None and settled < horizon:
            verdict = self._evaluate_unread(horizon)
        return self._late.add_to(verdict)

    @property
    def plan(self) -> WatchPlan:
        """What is watched."""
        return self._plan

    @property
    def is_over(self) -> bool:
        """Whether a guard has nothing left to guard."""
        return self._plan.until is not None and self._now() >= self._plan.until

    def seconds_to_next_look(self) -> float:
        """Return how long to wait: the next poll comes just when a bucket has settled."""
        watch = self._spec.watch
        lag = self._source.lag(watch.poll) if is_paced(self._source) else timedelta(0)
        settled = self._now() - EPOCH - watch.settle - lag
        return (watch.poll - settled % watch.poll).total_seconds() + 0.01

    def _horizon(self, now: datetime | None = None) -> datetime:
        watch = self._spec.watch
        return min(grid_floor((now or self._now()) - watch.settle, watch.step), self._end)

    def _end_of_chunk(self) -> datetime:
        """Return up to where to read next; the same for every watch, so that replays can be read together."""
        chunk = MAX_STEPS * self._spec.watch.step
        return grid_floor(self._read_until, chunk) + chunk

    async def _check_clock(self) -> None:
        """Believe a clock that was set forward once there are samples of the time that it claims."""
        claimed = self._clock.claims
        if claimed is None or self._source is None:
            return
        horizon = self._horizon(claimed)
        with suppress(SourceError, SeriesError, TimeoutError):
            async with asyncio.timeout(LOOK_TIMEOUT.total_seconds()):
                newest = self._request(horizon - self._spec.watch.step, horizon)
                samples = await self._source.fetch(newest)
            if any(sample.value == sample.value for sample in samples):
                self._clock.believe()

    async def _update_suspensions(self, horizon: datetime) -> None:
        """Read every suspension that concerns a look up to ``horizon``: it was recorded by now."""
        if self._suspensions is None:
            return
        as_of = horizon + self._spec.watch.settle
        self._fold.suspend(await self._suspensions(self._plan, as_of, self._log))

    async def _fetch(self, horizon: datetime) -> tuple[datetime, Sequence[Sample]]:
        """Return up to where everything is in, at most ``horizon``, and the samples up to there."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT.total_seconds()):
                if self._source is None:
                    self._source = await self._open_source(self._spec)
                settled = await self._settled(self._source, horizon)
                if settled <= self._read_until:
                    return self._read_until, ()
                request = self._request(self._late.reread_from(self._read_until), settled)
                return settled, await self._source.fetch(request)
        except TimeoutError:
            raise SourceError(
                f"the metric source did not answer within {LOOK_TIMEOUT.total_seconds():g} s", transient=True
            ) from None

    async def _settled(self, source: Source, horizon: datetime) -> datetime:
        if not is_watermarked(source):
            return horizon
        until = await source.settled_until()
        return self._read_until if until is None else grid_floor(min(horizon, until), self._spec.watch.step)

    def _request(self, start: datetime, end: datetime) -> SeriesRequest:
        spec = self._spec
        return SeriesRequest(
            series=self._series,
            release=spec.release,
            baseline=spec.baseline,
            start=start,
            end=end,
            step=spec.watch.step,
        )

    def _evaluate_unread(self, horizon: datetime) -> Evaluation | None:
        """Fold the missing looks as unknown on a copy: the range is read again when the source is back.

        A watcher that has not caught up yet may replace one that saw everything: it is not blind before it
        has run for ``blind_after`` itself.
        """
        unseen = frame_of(self._spec, (), start=self._read_until, end=horizon)
        if not self._has_caught_up and self._now() - self._began < self._spec.watch.blind_after:
            return self._evaluate_blind_start(unseen)
        verdict = self._fold.copy().fold(unseen)
        if verdict is None or verdict.verdict is VerdictKind.BLIND:
            return verdict
        # The window ended unseen: wait for the source as long as a blind watch would have.
        watch = self._spec.watch
        if self._now() - watch.settle - self._read_until < watch.blind_after:
            return None
        if watch.on_blind is OnBlind.CONTINUE:
            return verdict
        since = self._read_until
        sentence = f"no metric could be read since {since.isoformat()}, and the window is over"
        blind = Blind(area="every area", since=since, sentence=sentence)
        return verdict.model_copy(update={"verdict": VerdictKind.BLIND, "blind": blind})

    def _evaluate_blind_start(self, unseen: Frame) -> Evaluation | None:
        """Say blind where an earlier process was the last to see anything, and that is long ago."""
        watch, seen = self._spec.watch, None if self._seen_until is None else self._seen_until()
        if seen is None or self._now() - watch.settle - seen < watch.blind_after:
            return None
        verdict = self._fold.copy().fold(unseen)
        if verdict is None or verdict.verdict is not VerdictKind.BLIND:
            return None
        sentence = f"no metric could be read since {seen.isoformat()}"
        blind = Blind(area="every area", since=seen, sentence=sentence)
        return verdict.model_copy(update={"blind": blind, "evaluated_until": seen})


def _restarts(plan: WatchPlan) -> list[Restart]:
    return [
        Restart(budget_id, override.at)
        for override in plan.overrides
        for budget_id in (override.budgets or (None,))
    ]
