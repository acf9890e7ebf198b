"""Coalescing: rollouts that ask the same backend the same question are answered by one request."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from itertools import count, repeat
from math import ceil
from typing import Protocol, TypeGuard
from weakref import WeakSet

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.sources.base import SeriesRequest, Source, Watermarked, is_watermarked
from rollback_budget.sources.http_responses import source_error_of
from rollback_budget.sources.resilience.retry import TIME_OUT, RetryPolicy
from rollback_budget.text import plural
from rollback_budget.transport.errors import TransportError

log = logging.getLogger(__name__)

#: So many rollouts, and so many samples, are asked for in one request.
MOST_TOGETHER = 50
MOST_SAMPLES = 20_000
#: How long the first of a group waits for the others.
GATHERING_S = 0.03
#: Answers of no more steps than this are folded at once by all who waited for them.
FEW_STEPS = 3
#: More steps than this are a replay, and not a poll that comes late.
REPLAY_STEPS = 30
#: Polls are spread over this part of a poll, and over no more than this: what is spread comes later.
SPREAD, LONGEST_SPREAD = 0.25, timedelta(seconds=15)

#: Release and baseline.
SeriesVersions = tuple[str, str]
OpenOne = Callable[[], Awaitable[Source]]
_Answer = Sequence[Sample] | SourceError | SeriesError


class BatchSource(Protocol):
    """A source that can answer for many rollouts at once."""

    async def fetch_many(self, requests: Sequence[SeriesRequest]) -> Sequence[Sequence[Sample]]:
        """Return the samples of each of ``requests``, in their order; they differ in their versions only."""
        ...


class PacedSource(Protocol):
    """A source that says when it wants to be asked."""

    def lag(self, poll: timedelta) -> timedelta:
        """Return how long after a bucket has settled its readers should ask; less than ``poll``."""
        ...


@dataclass(slots=True)
class _Waiting:
    request: SeriesRequest
    answer: asyncio.Future[Sequence[Sample]]


class ConcurrencyLimit:
    """Bounds the requests in flight to one backend; replays have their own, so that no poll waits."""

    def __init__(self, polls: int = 8, replays: int = 2) -> None:
        self._polls = asyncio.Semaphore(polls)
        self._replays = asyncio.Semaphore(replays)

    def of(self, request: SeriesRequest) -> asyncio.Semaphore:
        """Return the limit that ``request`` counts against."""
        return self._replays if _steps(request) > REPLAY_STEPS else self._polls


class CoalescedSource:
    """One source, shared by every rollout whose queries are the same; to each it looks like its own.

    Whatever is asked for the same stretch of time while a request is under way, or within a moment, goes
    into the next one. When a request for many is refused, each is sent alone, and the rollouts whose request
    is refused alone stay apart: one bad rollout does not blind the others.

    :param open_source: opens what is shared, and again after a refusal: its secrets may have changed. It is
        asked for many at once where it is :class:`BatchSource`, else for each by itself.
    :param key: what the sharing rollouts have in common; says which part of a poll is theirs.
    """

    def __init__(self, open_source: OpenOne, retry: RetryPolicy, limit: ConcurrencyLimit, key: str) -> None:
        self._open_source = open_source
        self._opening: asyncio.Task[Source] | None = None
        self._watermark: asyncio.Task[datetime | None] | None = None
        self._retry = retry
        self._limit = limit
        self._phase = int.from_bytes(blake2b(key.encode(), digest_size=4).digest()) / 2**32
        self._waiting: dict[Hashable, deque[_Waiting]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._together = MOST_TOGETHER
        self._apart: set[SeriesVersions] = set()
        #: Refused alone when all were: isolating them again would find out nothing.
        self._refused: set[SeriesVersions] = set()
        #: A fault of ours in reading the answer; its place is logged once, and not with every poll.
        self._broken = ""
        self._readers: WeakSet[Reader] = WeakSet()
        self._numbers = count()

    def reader(self) -> Reader:
        """Return a reader for one more rollout."""
        reader = Reader(self, next(self._numbers))
        self._readers.add(reader)
        return reader

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        source = await self._source()
        answer: asyncio.Future[Sequence[Sample]] = asyncio.get_running_loop().create_future()
        key: Hashable = (request.series, request.start, request.end, request.step)
        if not _is_joint(source) or _versions(request) in self._apart:
            key = request
        queue = self._waiting.get(key)
        if queue is None:
            queue = self._waiting[key] = deque()
            task = asyncio.create_task(self._serve(key, queue))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        queue.append(_Waiting(request, answer))
        return await answer

    async def settled_until(self) -> datetime | None:
        """Return up to where everything is in; readers that ask within a moment share the answer."""
        source = await self._source()
        if not is_watermarked(source):
            return datetime.max.replace(tzinfo=UTC)
        query = self._watermark
        if query is None or query.done():
            query = self._watermark = asyncio.create_task(self._query_watermark(source))
        try:
            return await asyncio.shield(query)
        except SourceError as error:
            raise _own(error) from error

    async def _query_watermark(self, source: Watermarked) -> datetime | None:
        await asyncio.sleep(GATHERING_S)
        try:
            return await self._retry.run(source.settled_until)
        except Exception as error:
            raise _as_source_error("cannot say up to when everything is in", error) from error

    def lag_of(self, number: int, poll: timedelta) -> timedelta:
        """Return when the reader of this number asks: groups of readers lie evenly over the spread."""
        spread = min(SPREAD * poll, LONGEST_SPREAD)
        groups = max(ceil(len(self._readers) / MOST_TOGETHER), 1)
        return spread * ((self._phase + number // MOST_TOGETHER % groups / groups) % 1.0)

    async def _source(self) -> Source:
        """Return the open source; calls while it is being opened share the outcome."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            return opening.result() if opening.done() else await asyncio.shield(opening)
        except SourceError as error:
            if self._opening is opening:
                self._opening = None
            raise _own(error) from error

    async def _open(self) -> Source:
        try:
            async with asyncio.timeout(TIME_OUT.total_seconds()):
                return await self._open_source()
        except TimeoutError:
            raise SourceError(
                f"the metric source could not be opened within {TIME_OUT.total_seconds():g} s", transient=True
            ) from None
        except Exception as error:
            raise _as_source_error("cannot be opened", error) from error

    async def _serve(self, key: Hashable, queue: deque[_Waiting]) -> None:
        try:
            await asyncio.sleep(GATHERING_S)
            while queue:
                size = self._size(queue[0].request)
                members = [queue.popleft() for _ in range(min(size, len(queue)))]
                await self._answer([member for member in members if not member.answer.done()])
        finally:
            del self._waiting[key]
            _cancel(queue)

    def _size(self, request: SeriesRequest) -> int:
        of_one = 2 * len(request.series) * _steps(request)
        return max(min(self._together, MOST_SAMPLES // of_one), 1)

    async def _answer(self, members: list[_Waiting]) -> None:
        requests = list(dict.fromkeys(member.request for member in members))
        try:
            found = dict(zip(requests, await self._answers(requests), strict=False))
            for member in members:
                _settle(member, found[member.request])
                if _steps(member.request) > FEW_STEPS:
                    # Each folds for a while: whatever else is due comes in between.
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            _cancel(members)
            raise

    async def _answers(self, requests: list[SeriesRequest]) -> Iterable[_Answer]:
        """Return an answer, or why there is none, for each of ``requests``."""
        try:
            return await self._fetch(requests) if requests else ()
        except (SourceError, SeriesError) as error:
            return repeat(error)
        except Exception as error:
            broken = f"the metric source broke: {type(error).__name__}: {error}"
            if broken != self._broken:
                log.exception("the metric source broke")
            self._broken = broken
            return repeat(SourceError(broken, transient=False))

    async def _fetch(self, requests: list[SeriesRequest]) -> Sequence[_Answer]:
        try:
            answers = await self._fetch_together(requests)
        except (SourceError, SeriesError) as error:
            if _may_pass(error):
                # A backend that was busy gets smaller requests; then for more again.
                self._together = max(self._together // 2, 1)
                raise
            self._opening = None
            if len(requests) == 1 or self._refused.issuperset(map(_versions, requests)):
                raise
            return await self._isolate_failing(requests, error)
        self._broken = ""
        self._together = min(2 * self._together, MOST_TOGETHER)
        self._refused.clear()
        self._apart.difference_update(map(_versions, requests))
        return answers

    async def _fetch_together(self, requests: list[SeriesRequest]) -> Sequence[Sequence[Sample]]:
        source = await self._source()
        async with self._limit.of(requests[0]):
            if len(requests) > 1 and _is_joint(source):
                answers = await self._retry.run(partial(source.fetch_many, requests))
                if len(answers) != len(requests):
                    raise SourceError(
                        f"the metric source gave {plural(len(answers), 'answer')} to"
                        f" {plural(len(requests), 'request')}; its `fetch_many` owes one for each",
                        transient=False,
                    )
                return answers
            return [await self._retry.run(partial(source.fetch, request)) for request in requests]

    async def _isolate_failing(self, requests: list[SeriesRequest], refusal: Exception) -> Sequence[_Answer]:
        """Send each request alone; when all are refused, the fault is none of theirs."""
        answers: list[_Answer] = []
        refused = set()
        for request in requests:
            try:
                answers += await self._fetch_together([request])
            except (SourceError, SeriesError) as error:
                answers.append(error)
                if not _may_pass(error):
                    refused.add(_versions(request))
        if len(refused) == len(requests):
            self._refused |= refused
            raise refusal
        self._apart |= refused
        return answers


class Reader:
    """What one rollout reads a :class:`CoalescedSource` by."""

    def __init__(self, shared: CoalescedSource, number: int) -> None:
        self._shared = shared
        self._number = number

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        return await self._shared.fetch(request)

    async def settled_until(self) -> datetime | None:
        """Return up to where everything is in; for a source that cannot say, nothing holds looks back."""
        return await self._shared.settled_until()

    def lag(self, poll: timedelta) -> timedelta:
        """Return how long after a bucket has settled this rollout asks."""
        return self._shared.lag_of(self._number, poll)


def is_paced(source: Source | None) -> TypeGuard[PacedSource]:
    """Whether a source is one."""
    return hasattr(source, "lag")


def _is_joint(source: Source) -> TypeGuard[BatchSource]:
    return hasattr(source, "fetch_many")


def _versions(request: SeriesRequest) -> SeriesVersions:
    return request.release, request.baseline


def _steps(request: SeriesRequest) -> int:
    return max((request.end - request.start) // request.step, 1)


def _may_pass(error: SourceError | SeriesError) -> bool:
    return isinstance(error, SourceError) and error.transient


def _own(error: SourceError) -> SourceError:
    """Return one error for each who hears it: what is raised collects the places that it came through."""
    return SourceError(str(error), transient=error.transient, retry_after=error.retry_after)


def _cancel(members: Iterable[_Waiting]) -> None:
    for member in members:
        member.answer.cancel()


def _settle(member: _Waiting, answer: _Answer) -> None:
    if member.answer.done():
        return
    if isinstance(answer, SourceError):
        own = _own(answer)
        own.__cause__ = answer
        member.answer.set_exception(own)
    elif isinstance(answer, SeriesError):
        member.answer.set_exception(SeriesError(str(answer)))
    else:
        member.answer.set_result(answer)


def _as_source_error(what: str, error: Exception) -> SourceError:
    """Say any failure of a source, also of another package's, in the way that a watch goes on with."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, TransportError):
        return source_error_of(error)
    return SourceError(f"the metric source {what}: {type(error).__name__}: {error}", transient=False)
