"""Many rollouts, one request: which are queried together, and whose failure is whose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.resilience.circuit_breaker import CircuitBreaker
from rollback_budget.sources.resilience.coalescing import (
    MOST_SAMPLES,
    MOST_TOGETHER,
    CoalescedSource,
    ConcurrencyLimit,
)
from rollback_budget.sources.resilience.retry import RetryPolicy
from rollback_budget.transport.errors import Failure, TransportError
from tests.support.virtual_time import run_virtually

pytestmark = pytest.mark.pure

START = datetime(2026, 10, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Backend:
    """Gives every rollout its own value; some rollouts' queries are refused, alone or with others."""

    def __init__(self, refuses: set[str] = frozenset(), takes_s: float = 0.1) -> None:  # type: ignore[assignment]
        self.refuses = refuses
        self.takes_s = takes_s
        self.error = SourceError("parse error", transient=False)
        self.asked: list[list[SeriesRequest]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.opened = 0

    async def open(self) -> Backend:
        self.opened += 1
        await asyncio.sleep(0.1)
        return self

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        return (await self.fetch_many([request]))[0]

    async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
        self.asked.append(list(requests))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.takes_s)
        self.under_way -= 1
        if any(request.release in self.refuses for request in requests):
            raise self.error
        return [[Sample(one.end, "p95", one.release, float(one.release[1:]))] for one in requests]


def coalesced(backend: Backend) -> CoalescedSource:
    return CoalescedSource(backend.open, RetryPolicy(CircuitBreaker("prom")), ConcurrencyLimit(), "queries")


def question(rollout: int, minute: int = 1, minutes: int = 1) -> SeriesRequest:
    end = START + minute * MINUTE
    return SeriesRequest(("p95",), f"v{rollout}", "v0", end - minutes * MINUTE, end, MINUTE)


async def ask(shared: CoalescedSource, *requests: SeriesRequest) -> list[float | str]:
    """Ask for all at once; return each one's value, or what it heard instead."""
    answers = await asyncio.gather(*map(shared.fetch, requests), return_exceptions=True)
    return [str(answer) if isinstance(answer, BaseException) else answer[0].value for answer in answers]


def test_rollouts_of_one_shape_are_answered_together_and_each_gets_its_own() -> None:
    backend = Backend()
    answers = run_virtually(ask(coalesced(backend), *(question(rollout) for rollout in range(1, 121))))
    assert answers == [float(rollout) for rollout in range(1, 121)]
    assert [len(requests) for requests in backend.asked] == [MOST_TOGETHER, MOST_TOGETHER, 20]
    assert (backend.most_under_way, backend.opened) == (1, 1)


def test_other_stretches_of_time_are_other_questions_and_the_same_one_is_asked_once() -> None:
    backend = Backend()
    answers = run_virtually(
        ask(coalesced(backend), question(1), question(1), question(2, minute=2), question(3, minute=2))
    )
    assert answers == [1.0, 1.0, 2.0, 3.0]
    assert sorted(len(requests) for requests in backend.asked) == [1, 2]


def test_a_replay_asks_for_few_at_a_time_and_leaves_the_concurrency_limit_to_polls() -> None:
    backend = Backend(takes_s=10)
    shared = coalesced(backend)
    day = 24 * 60

    async def run() -> float:
        replays = [asyncio.create_task(shared.fetch(question(n, day + n, day))) for n in range(1, 201)]
        await asyncio.sleep(1)
        begun = asyncio.get_running_loop().time()
        await shared.fetch(question(1))
        took = asyncio.get_running_loop().time() - begun
        await asyncio.gather(*replays)
        return took

    assert run_virtually(run()) < 11
    assert backend.most_under_way <= 3
    together = run_virtually(
        ask(shared := coalesced(again := Backend()), *(question(n, day, day) for n in range(1, 60)))
    )
    assert together == [float(n) for n in range(1, 60)]
    assert max(len(requests) for requests in again.asked) == MOST_SAMPLES // (2 * day)


def test_replays_that_were_answered_together_go_on_in_turn_with_whatever_else_is_due_in_between() -> None:
    async def turns_of(minutes: int) -> list[str]:
        shared, turns = coalesced(Backend()), []

        async def follow(number: int) -> None:
            await shared.fetch(question(number, minutes, minutes))
            turns.append("fold")
            asyncio.get_running_loop().call_soon(turns.append, "something else")

        await asyncio.gather(*(follow(number) for number in range(1, 4)))
        await asyncio.sleep(1)
        return turns

    assert run_virtually(turns_of(minutes=60)) == ["fold", "something else"] * 3
    assert run_virtually(turns_of(minutes=1)) == ["fold"] * 3 + ["something else"] * 3


def test_one_bad_rollout_does_not_blind_the_others_and_is_asked_for_apart_from_then_on() -> None:
    backend = Backend(refuses={"v7"})
    shared = coalesced(backend)

    async def run() -> tuple[list[float | str], list[float | str], list[float | str]]:
        first = await ask(shared, *(question(rollout) for rollout in range(1, 11)))
        backend.asked.clear()
        second = await ask(shared, *(question(rollout, minute=2) for rollout in range(1, 11)))
        sizes = sorted(len(requests) for requests in backend.asked)
        assert sizes == [1, 9]
        backend.refuses = set()
        await ask(shared, *(question(rollout, minute=3) for rollout in range(1, 11)))
        backend.asked.clear()
        third = await ask(shared, *(question(rollout, minute=4) for rollout in range(1, 11)))
        return first, second, third

    first, second, third = run_virtually(run())
    good = [float(rollout) for rollout in range(1, 11)]
    assert first == second == [*good[:6], "parse error", *good[7:]]
    assert third == good
    assert len(backend.asked) == 1


def test_when_all_requests_are_refused_they_are_sent_apart_once_and_the_source_is_opened_anew() -> None:
    rollouts = {f"v{rollout}" for rollout in range(1, 11)}
    backend = Backend(refuses=rollouts)
    backend.error = SourceError("401 unauthorized", transient=False)
    shared = coalesced(backend)

    async def run() -> list[float | str]:
        for minute in range(1, 4):
            heard = await ask(shared, *(question(rollout, minute) for rollout in range(1, 11)))
            assert heard == ["401 unauthorized"] * 10
        assert [len(requests) for requests in backend.asked[11:]] == [10, 10]
        backend.refuses = rollouts - {"v99"}
        heard = await ask(shared, *(question(rollout, 4) for rollout in (1, 2, 99)))
        assert heard == ["401 unauthorized", "401 unauthorized", 99.0]
        backend.refuses = set()
        return await ask(shared, *(question(rollout, 5) for rollout in range(1, 11)))

    assert run_virtually(run()) == [float(rollout) for rollout in range(1, 11)]
    assert backend.opened >= 3


def test_a_backend_that_is_too_busy_for_many_is_asked_for_fewer() -> None:
    class Busy(Backend):
        async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
            if len(requests) > 12:
                self.asked.append(list(requests))
                raise SourceError("422 context deadline exceeded", transient=True)
            return await super().fetch_many(requests)

    backend = Busy()
    shared = CoalescedSource(
        backend.open,
        RetryPolicy(CircuitBreaker("prom"), poll=timedelta(seconds=0.1)),
        ConcurrencyLimit(),
        "queries",
    )

    async def run() -> list[float | str]:
        for minute in range(1, 3):
            heard = await ask(
                shared, *(question(rollout, minute) for rollout in range(1, 11 + 40 * (minute == 1)))
            )
        return heard

    assert run_virtually(run()) == [float(rollout) for rollout in range(1, 11)]


def test_a_fault_of_ours_is_logged_with_its_place_once_and_again_after_it_was_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Backend):
        async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
            if requests[0].end != question(1, minute=4).end:
                raise KeyError("le")
            return await super().fetch_many(requests)

    shared = coalesced(Broken())

    async def run() -> list[float | str]:
        return [heard for minute in range(1, 8) for heard in await ask(shared, question(1, minute))]

    with caplog.at_level("ERROR", logger="rollback_budget.sources.resilience.coalescing"):
        heard = run_virtually(run())
    assert heard.count(1.0) == 1
    assert {"the metric source broke: KeyError: 'le'", 1.0} == set(heard)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_who_stops_waiting_takes_nothing_from_the_others() -> None:
    backend = Backend(takes_s=5)
    shared = coalesced(backend)

    async def run() -> list[float | str]:
        leaving = asyncio.create_task(shared.fetch(question(1)))
        staying = asyncio.create_task(ask(shared, question(2), question(3)))
        await asyncio.sleep(1)
        leaving.cancel()
        return await staying

    assert run_virtually(run()) == [2.0, 3.0]


def test_readers_of_one_shape_ask_in_groups_that_lie_evenly_over_a_part_of_the_poll() -> None:
    shared = coalesced(Backend())
    readers = [shared.reader() for _ in range(5000)]
    lags = [reader.lag(MINUTE) for reader in readers]
    assert len(set(lags)) == 100
    assert max(lags) < timedelta(seconds=15)
    assert all(lags.count(lag) == MOST_TOGETHER for lag in set(lags))
    few = coalesced(Backend())
    assert len({few.reader().lag(MINUTE) for _ in range(MOST_TOGETHER)}) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KeyError("token"), "the metric source cannot be opened: KeyError: 'token'"),
        (TransportError(Failure.TIMEOUT, "no answer within 5 s", request="GET /x"), "no answer within 5 s"),
    ],
)
def test_a_source_that_breaks_while_it_is_opened_is_opened_again_at_the_next_poll(
    fault: Exception, said: str
) -> None:
    backend = Backend()

    async def open_once_broken() -> Backend:
        await backend.open()
        if backend.opened == 1:
            raise fault
        return backend

    shared = CoalescedSource(
        open_once_broken, RetryPolicy(CircuitBreaker("prom")), ConcurrencyLimit(), "queries"
    )

    async def poll_twice() -> list[list[float | str]]:
        return [await ask(shared, question(1)), await ask(shared, question(1, minute=2))]

    (first,), (second,) = run_virtually(poll_twice())
    assert said in str(first)
    assert second == 1.0


def test_a_watermark_that_breaks_is_an_error_of_the_source_that_a_watch_goes_on_with() -> None:
    class Lost(Backend):
        async def settled_until(self) -> datetime | None:
            raise KeyError("newest")

    with pytest.raises(SourceError, match="up to when everything is in: KeyError"):
        run_virtually(coalesced(Lost()).settled_until())


def test_when_a_source_answers_fewer_requests_than_it_got_each_is_sent_alone() -> None:
    class Forgetful(Backend):
        async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
            return (await super().fetch_many(requests))[: 1 if len(requests) > 1 else None]

    answers = run_virtually(ask(coalesced(Forgetful()), question(1), question(2)))
    assert answers == [1.0, 2.0]
