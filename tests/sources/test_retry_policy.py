"""Asking again, in virtual time: what is retried and when, and when a backend is paused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from rollback_budget.exceptions import SourceError
from rollback_budget.sources.resilience.circuit_breaker import (
    FAILURES_TO_OPEN,
    LONGEST_PAUSE_S,
    CircuitBreaker,
)
from rollback_budget.sources.resilience.retry import RetryPolicy
from rollback_budget.transport.errors import Failure, TransportError
from tests.support.virtual_time import run_virtually

pytestmark = pytest.mark.pure

MINUTE = timedelta(minutes=1)


class Backend:
    """Answers by the clock of the loop, and remembers when it was asked."""

    def __init__(self, answer: Callable[[float], SourceError | None], takes_s: float = 0.0) -> None:
        self.answer = answer
        self.takes_s = takes_s
        self.asked: list[float] = []

    async def __call__(self) -> str:
        now = asyncio.get_running_loop().time()
        self.asked.append(now)
        await asyncio.sleep(self.takes_s)
        error = self.answer(now)
        if error is not None:
            raise error
        return "samples"


def unavailable(retry_after_s: float | None = None) -> SourceError:
    wait = None if retry_after_s is None else timedelta(seconds=retry_after_s)
    return SourceError("connection refused", transient=True, retry_after=wait)


def polls(policy: RetryPolicy, backend: Backend, minutes: int) -> list[str]:
    """Ask once a minute; return what was heard."""

    async def run() -> list[str]:
        loop, heard = asyncio.get_running_loop(), []
        for minute in range(minutes):
            await asyncio.sleep(minute * 60 - loop.time())
            try:
                heard.append(await policy.run(backend))
            except SourceError as error:
                heard.append(str(error))
        return heard

    return run_virtually(run())


def test_a_hiccup_is_retried_within_the_poll() -> None:
    backend = Backend(lambda now: unavailable() if now < 1.5 else None)
    assert polls(RetryPolicy(CircuitBreaker("prom"), poll=MINUTE), backend, 1) == ["samples"]
    assert len(backend.asked) in (3, 4)


def test_retries_of_many_processes_do_not_come_at_the_same_moment() -> None:
    second_tries = set()
    for _ in range(20):
        backend = Backend(lambda now: unavailable() if now == 0 else None)
        polls(RetryPolicy(CircuitBreaker("prom"), poll=MINUTE), backend, 1)
        second_tries.add(backend.asked[1])
    assert len(second_tries) == 20


def test_a_request_without_an_answer_is_retried_for_every_kind_of_source() -> None:
    asked = []

    async def question() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise TransportError(Failure.BROKEN, "the connection was lost")
        return "samples"

    assert run_virtually(RetryPolicy(CircuitBreaker("prom"), poll=MINUTE).run(question)) == "samples"
    assert len(asked) == 2


def test_what_no_retry_mends_is_not_retried_and_opens_no_circuit() -> None:
    backend = Backend(lambda _: SourceError("401", transient=False))
    circuit = CircuitBreaker("prom")
    assert polls(RetryPolicy(circuit, poll=MINUTE), backend, 30) == ["401"] * 30
    assert len(backend.asked) == 30
    assert not circuit.is_open


def test_retry_after_within_the_poll_is_waited_for() -> None:
    backend = Backend(lambda now: unavailable(20) if now < 20 else None)
    assert polls(RetryPolicy(CircuitBreaker("prom"), poll=MINUTE), backend, 1) == ["samples"]
    assert backend.asked[0] == 0
    assert backend.asked[1] >= 20


def test_retry_after_beyond_the_poll_makes_looks_unknown_and_no_request_is_sent_before_it_is_over() -> None:
    backend = Backend(lambda now: unavailable(150) if now < 150 else None)
    heard = polls(RetryPolicy(CircuitBreaker("prom"), poll=MINUTE), backend, 4)
    assert backend.asked[0] == 0
    assert min(backend.asked[1:]) >= 150
    assert heard[0] == heard[1] != "samples"
    assert heard[3] == "samples"


def test_a_try_that_takes_too_long_is_ended() -> None:
    backend = Backend(lambda _: None, takes_s=3600)
    policy = RetryPolicy(CircuitBreaker("prom"), time_out=timedelta(seconds=30), poll=MINUTE)
    [heard] = polls(policy, backend, 1)
    assert "no answer within 30 s" in heard
    assert len(backend.asked) == 2


def test_a_dead_backend_is_only_probed_says_so_once_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    back_s = 3600
    backend = Backend(lambda now: unavailable() if now < back_s else None)
    circuit = CircuitBreaker("prom")

    async def run() -> list[str]:
        async def watch() -> list[str]:
            policy, heard = RetryPolicy(circuit, poll=MINUTE), []
            for _ in range(65):
                try:
                    heard.append(await policy.run(backend))
                except SourceError as error:
                    heard.append(str(error))
                await asyncio.sleep(60)
            return heard

        return [text for heard in await asyncio.gather(*(watch() for _ in range(100))) for text in heard]

    with caplog.at_level(logging.INFO, logger="rollback_budget.sources.resilience.circuit_breaker"):
        heard = run_virtually(run())
    before = [time for time in backend.asked if 60 < time < back_s]
    assert len(before) <= 61, "probes, not 100 watches"
    assert all(later - time >= 20 for time, later in pairwise(before))
    assert max(later - time for time, later in pairwise(before)) <= LONGEST_PAUSE_S + 60
    assert heard.count("samples") >= 100
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(set(heard)) == 2, "what a watch hears does not change with who probes"


@pytest.mark.parametrize("blind_after_s", [20, 120])
def test_a_backend_that_is_back_is_noticed_well_before_a_watch_would_be_blind(blind_after_s: int) -> None:
    unavailable_until = 600
    backend = Backend(lambda now: unavailable() if now < unavailable_until else None)
    circuit = CircuitBreaker("prom")
    circuit.serve(timedelta(hours=1))
    circuit.serve(timedelta(seconds=blind_after_s))

    async def run() -> float:
        policy, loop = RetryPolicy(circuit, poll=timedelta(seconds=1)), asyncio.get_running_loop()
        while True:
            try:
                await policy.run(backend)
            except SourceError:
                await asyncio.sleep(1)
            else:
                return loop.time()

    assert run_virtually(run()) <= unavailable_until + blind_after_s / 4 + 1
    probes = [time for time in backend.asked if 200 < time < unavailable_until]
    gaps = [later - time for time, later in pairwise(probes)]
    assert blind_after_s / 10 < min(gaps), "still paused"
    assert max(gaps) <= blind_after_s / 4 + 1


def test_one_success_forgets_the_failures_before() -> None:
    circuit = CircuitBreaker("prom")
    backend = Backend(lambda now: unavailable() if round(now / 60) % FAILURES_TO_OPEN else None)
    polls(RetryPolicy(circuit, poll=timedelta(seconds=0.1)), backend, 60)
    assert len(backend.asked) == 60
