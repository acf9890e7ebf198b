"""The watcher, for the trigger and for the sensor: look, fold what is new, return the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from rollback_budget.clock import EPOCH, PROOF, Elapsed, Log, Now, SteadyClock, grid_floor, utc_now
from rollback_budget.engine.evaluation import Blind, Evaluation, VerdictKind
from rollback_budget.engine.fold import Fold, Restart, Window
from rollback_budget.engine.frame import Frame, join_paces
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.model.budget import Tier
from rollback_budget.model.pace import Pace, paces_of
from rollback_budget.model.watch_settings import OnBlind
from rollback_budget.sources.base import OpenSource, Source
from rollback_budget.sources.resilience.coalescing import is_paced
from rollback_budget.watch.look_recorder import LookRecorder
from rollback_budget.watch.look_writer import LookSink
from rollback_budget.watch.pace_reader import PaceReader, Reading
from rollback_budget.watch.suspension_cache import SuspensionLookup
from rollback_budget.watch.task_log import TaskLog
from rollback_budget.watch.watch_plan import Role, WatchPlan

#: A look waits no longer for its source, the queue included; sources have time-outs of their own.
LOOK_TIMEOUT = timedelta(minutes=5)
#: Metrics of one pace wait so long for those of another one that are read at the same time.
PATIENCE = timedelta(minutes=1)


class Watcher:
    """Follows one rollout from its window's start; the first look replays whatever has happened already.

    Nothing of it needs to survive a crash: a new watcher arrives at the same verdict.

    :param plan: what to watch.
    :param open_source: opens the metric source; called again until it succeeds.
    :param suspensions: returns the suspensions of the rollout; None for none.
    :param looks: where every look goes; None for nowhere.
    :param now: the clock.
    :param elapsed: a monotonic clock, to notice when ``now`` is set; None when that cannot happen.
    :param seen_until: returns up to where an earlier process saw the metrics, pace by pace, where a poll has
        missed a look since; for a watch whose every look is a process of its own, which could not know else
        for how long its source has been away.
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
        seen_until: Callable[[], Mapping[Pace, datetime]] | None = None,
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
        guard = plan.role is Role.GUARD
        self._readers = [PaceReader(plan, pace, log, self._now) for pace in paces_of(spec)]
        end = max(grid_floor(plan.window_end, reader.pace.every) for reader in self._readers)
        self._fold = Fold(
            spec,
            Window(plan.window_start, end),
            restarts=_restarts(plan),
            tiers=frozenset({Tier.A}) if guard else None,
            watch_blind=not guard,
        )
        self._look_recorder = LookRecorder(plan, looks)
        self._began = self._now()
        #: What could not be read, and why.
        self._errors: dict[PaceReader, str] = {}

    async def look(self) -> Evaluation | None:
        """Read and fold what has settled since the last look; return the verdict once there is one.

        A source that fails makes the look unknown and is queried for the same range again next time.
        """
        verdict = await self._look()
        self._task_log.after_look(
            self._fold, min(reader.read_until for reader in self._errors or self._readers)
        )
        self._look_recorder.after_poll()
        return verdict

    async def _look(self) -> Evaluation | None:
        clock = self._now() - self._spec.watch.settle
        due = [reader for reader in self._readers if reader.is_due(clock)]
        for reader in self._readers:
            reader.has_caught_up |= reader not in due
        if due:
            await self._update_suspensions(max(reader.horizon(clock) + reader.pace.lag for reader in due))
        verdict = None
        while due and verdict is None:
            verdict, due = await self._look_until(
                due, min(clock, *(one.end_of_chunk() for one in due)), clock
            )
        missing = [reader for reader in self._readers if reader.is_due(clock)]
        if verdict is None and missing:
            verdict = self._evaluate_unread(missing, clock)
        elif verdict is None:
            await self._check_clock()
        for reader in self._readers:
            verdict = reader.late.add_to(verdict)
        return verdict

    async def _look_until(
        self, due: Sequence[PaceReader], until: datetime, clock: datetime
    ) -> tuple[Evaluation | None, list[PaceReader]]:
        """Read what is due and fold what is decided when the clock shows ``until``.

        :return: the verdict, and what there is still to read.
        """
        now_due = [reader for reader in due if reader.is_due(until)]
        read = await self._read(now_due, until)
        frames: dict[PaceReader, Frame] = {}
        for reader, found in read.items():
            self._errors.pop(reader, None)
            if isinstance(found, str):
                self._errors[reader] = found
                continue
            try:
                if found.until > reader.read_until:
                    frames[reader] = reader.frame(found)
            except SeriesError as error:
                self._errors[reader] = str(error)
        self._say_what_is_missing(now_due, read, until)
        verdict = None
        if frames:
            every = [frames.get(reader) or reader.nothing_new() for reader in self._readers]
            verdict = await self._look_recorder.fold(self._fold, join_paces(every))
        for reader in frames:
            found = read[reader]
            assert isinstance(found, Reading)
            self._fold.add_late(reader.advance(found))
            reader.has_caught_up |= found.until == reader.horizon(clock)
        missing = [reader for reader in now_due if reader.is_due(until)]
        return verdict, [reader for reader in due if reader not in missing and reader.is_due(clock)]

    def _say_what_is_missing(
        self,
        readers: Sequence[PaceReader],
        read: Mapping[PaceReader, Reading | str],
        until: datetime,
    ) -> None:
        found = [(reader, read[reader]) for reader in readers]
        lags = any(
            isinstance(reading, Reading) and reader.horizon(until) - reading.until > reader.pace.max_gap
            for reader, reading in found
        )
        said = [*dict.fromkeys(self._errors.values())]
        if lags and not said:
            said = ["the newest rows have not arrived yet, by the source's watermark"]
        self._task_log.on_source_error("; ".join(said) or None)

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

    async def _check_clock(self) -> None:
        """Believe a clock that was set forward once there are samples of the time that it claims."""
        claimed = self._clock.claims
        if claimed is None:
            return
        reader = min(self._readers, key=lambda one: one.pace.every)
        horizon = reader.horizon(claimed - self._spec.watch.settle)
        if horizon < self._now() + max(PROOF, reader.pace.every):
            # A value there proves nothing: its look has begun, or what came last is carried forward.
            return
        with suppress(SourceError, SeriesError, TimeoutError):
            async with asyncio.timeout(LOOK_TIMEOUT.total_seconds()):
                newest = reader.request(horizon - reader.pace.every, horizon)
                samples = await (await self._opened_source()).fetch(newest)
            if any(sample.value == sample.value for sample in samples):
                self._clock.believe()

    async def _opened_source(self) -> Source:
        """Return the source; raises SourceError."""
        if self._source is None:
            self._source = await self._open_source(self._spec)
        return self._source

    async def _update_suspensions(self, as_of: datetime) -> None:
        """Read every suspension that concerns the looks decided by ``as_of``: it was recorded by now."""
        if self._suspensions is not None:
            self._fold.suspend(await self._suspensions(self._plan, as_of, self._log))

    async def _read(self, readers: Sequence[PaceReader], until: datetime) -> dict[PaceReader, Reading | str]:
        """Read all that is due at the same time; what cannot be read of one pace leaves the others alone.

        :return: what came, or why it could not be read: an error that is kept would keep all that it saw.
        """

        async def read(source: Source, reader: PaceReader) -> Reading | str:
            try:
                return await reader.read(source, reader.horizon(until))
            except SourceError as error:
                return str(error)

        try:
            async with asyncio.timeout(LOOK_TIMEOUT.total_seconds()):
                source = await self._opened_source()
                if len(readers) == 1:
                    return {readers[0]: await read(source, readers[0])}
                return await _each(readers, lambda reader: read(source, reader))
        except SourceError as error:
            return dict.fromkeys(readers, str(error))
        except TimeoutError:
            return dict.fromkeys(
                readers,
                f"the metric source did not answer within {LOOK_TIMEOUT.total_seconds():g} s",
            )

    def _evaluate_unread(self, missing: Sequence[PaceReader], clock: datetime) -> Evaluation | None:
        """Fold the missing looks as unknown on a copy: the range is read again when the source is back.

        A watcher that has not caught up yet may replace one that saw everything: it is not blind before it
        has run for ``blind_after`` itself.
        """
        now = self._now()
        known = [
            reader
            for reader in missing
            if reader.has_caught_up
            or now - self._began >= reader.pace.blind_after
            or (reader.is_last(clock) and now - self._began >= self._spec.watch.blind_after)
        ]
        if not known:
            return self._evaluate_blind_start(missing, clock)
        verdict = self._fold.copy().fold(self._unseen(known, clock))
        is_blind = verdict is not None and verdict.verdict is VerdictKind.BLIND
        if verdict is None or (is_blind and verdict.blind is not None and not verdict.blind.budgets):
            return verdict
        # The window ended unseen: wait for the source as long as a blind watch would have.
        if any(reader.overdue(now) < self._spec.watch.blind_after for reader in missing):
            return None
        if is_blind:
            return verdict
        if self._spec.watch.on_blind is OnBlind.CONTINUE:
            return verdict
        since = min(reader.read_until for reader in missing)
        what, area = self._name(missing)
        sentence = f"{what} could be read since {since.isoformat()}, and the window is over"
        blind = Blind(area=area, since=since, sentence=sentence)
        return verdict.model_copy(update={"verdict": VerdictKind.BLIND, "blind": blind})

    def _unseen(self, missing: Sequence[PaceReader], clock: datetime) -> Frame:
        return join_paces(
            [reader.unseen(clock) if reader in missing else reader.nothing_new() for reader in self._readers]
        )

    def _evaluate_blind_start(self, missing: Sequence[PaceReader], clock: datetime) -> Evaluation | None:
        """Say blind where an earlier process was the last to see anything, and that is long ago."""
        seen_until = {} if self._seen_until is None else self._seen_until()
        seen = {
            reader: seen_until[reader.pace]
            for reader in missing
            if reader.pace in seen_until
            and self._now() - reader.pace.lag - seen_until[reader.pace] >= reader.pace.blind_after
        }
        verdict = self._fold.copy().fold(self._unseen([*seen], clock)) if seen else None
        if verdict is None or verdict.verdict is not VerdictKind.BLIND:
            return None
        since = min(seen.values())
        what, area = self._name([*seen])
        blind = Blind(area=area, since=since, sentence=f"{what} could be read since {since.isoformat()}")
        return verdict.model_copy(update={"blind": blind, "evaluated_until": since})

    def _name(self, missing: Sequence[PaceReader]) -> tuple[str, str]:
        """Return how to say that nothing could be read, and of which area."""
        if len(missing) == len(self._readers):
            return "no metric", "every area"
        series = [name for reader in missing for name in reader.series]
        area = next(one.area for one in self._spec.budgets if one.series in series)
        return f"no value of {', '.join(series)}", area


async def _each(
    readers: Sequence[PaceReader], read: Callable[[PaceReader], Awaitable[Reading | str]]
) -> dict[PaceReader, Reading | str]:
    """Read them at the same time; what hangs keeps the others waiting no longer than :data:`PATIENCE`."""
    tasks = {reader: asyncio.ensure_future(read(reader)) for reader in readers}
    try:
        _, pending = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=PATIENCE.total_seconds())
        hangs = f"no answer within {PATIENCE.total_seconds():g} s of that for other metrics"
        return {reader: task.result() if task.done() else hangs for reader, task in tasks.items()}
    finally:
        left = [task for task in tasks.values() if task.cancel()]
        if left:
            await asyncio.wait(left)


def _restarts(plan: WatchPlan) -> list[Restart]:
    return [
        Restart(budget_id, override.at)
        for override in plan.overrides
        for budget_id in (override.budgets or (None,))
    ]
