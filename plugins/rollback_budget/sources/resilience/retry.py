"""The retry policy: which requests to a metric backend are sent again, how often, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import uniform
from typing import TypeVar

from rollback_budget.exceptions import SourceError
from rollback_budget.sources.http_responses import source_error_of
from rollback_budget.sources.resilience.circuit_breaker import CircuitBreaker
from rollback_budget.transport.errors import TransportError

T = TypeVar("T")

#: How long one try may take where the source does not say it.
TIME_OUT = timedelta(seconds=30)
#: No poll is retried for longer than this, however long it is.
LONGEST = timedelta(seconds=60)
#: Pauses between tries, in seconds; the last one repeats.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
JITTER = (0.5, 1.5)


class RetryPolicy:
    """How long one poll keeps trying.

    :param circuit: of the backend.
    :param time_out: of one try.
    :param poll: nothing is tried again once so much time has passed.
    """

    def __init__(
        self, circuit: CircuitBreaker, *, time_out: timedelta = TIME_OUT, poll: timedelta = LONGEST
    ) -> None:
        self._circuit = circuit
        self._time_out_s = time_out.total_seconds()
        self._within_s = min(poll, LONGEST).total_seconds()

    async def run(self, query: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to ``query``, tried again with jittered pauses while that may help.

        :raises SourceError: there is none; an error that no retry fixes is raised at once.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._within_s
        tries = 0
        while True:
            held_s = self._circuit.held_s()
            if loop.time() + held_s >= give_up:
                raise self._circuit.postponement()
            if held_s:
                await asyncio.sleep(held_s)
                continue
            try:
                return await self._try(query)
            except SourceError as error:
                pause_s = PAUSES[min(tries, len(PAUSES) - 1)] * uniform(*JITTER)  # noqa: S311
                if not error.transient or self._circuit.is_open or loop.time() + pause_s >= give_up:
                    raise
            tries += 1
            await asyncio.sleep(pause_s)

    async def _try(self, query: Callable[[], Awaitable[T]]) -> T:
        circuit = self._circuit
        circuit.admit()
        try:
            async with asyncio.timeout(self._time_out_s):
                answer = await _result_of(query)
        except TimeoutError:
            error = SourceError(
                f"{circuit.name} gave no answer within {self._time_out_s:g} s", transient=True
            )
            circuit.failed(error)
            raise (circuit.refusal() if circuit.is_open else error) from None
        except SourceError as error:
            if not error.transient:
                circuit.answered()
                raise
            circuit.failed(error)
            if circuit.is_open:
                raise circuit.refusal() from error
            raise
        except BaseException:
            circuit.abandoned()
            raise
        circuit.answered()
        return answer


async def _result_of(query: Callable[[], Awaitable[T]]) -> T:
    """Return the answer; a source of a third party may leave a request without one to us."""
    try:
        return await query()
    except TransportError as error:
        raise source_error_of(error) from error
