"""Calls that block, made from a trigger: in threads of their own, and waited for a moment only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import cache, partial
from typing import Generic, TypeVar

#: Questions to the ledger that one process has under way at the same time.
LOOKUPS_AT_ONCE = 16

T = TypeVar("T")


async def in_thread(pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    """Return what ``function`` returns, called in a thread of ``pool``."""
    # By the context Airflow knows which task's log a line belongs to.
    run = copy_context().run
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: run(function))


class Lookup(Generic[T]):
    """A question that is asked again and again; whoever asks waits a moment for the answer only.

    One call is under way at a time: where nobody answers, no threads pile up.

    :param call: asks; None is no answer.
    """

    def __init__(self, call: Callable[[], Awaitable[T | None]]) -> None:
        self._call = call
        self._under_way: asyncio.Future[T | None] | None = None

    @classmethod
    def in_thread(cls, function: Callable[[], T | None]) -> Lookup[T]:
        """Return a question that blocks, asked in a thread that all lookups share."""
        return cls(partial(in_thread, lookups(), function))

    async def answer(self, timeout: timedelta) -> T | None:
        """Return the answer; None when there is none in time. Raises what the call raises."""
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(self._call())
        done, _ = await asyncio.wait({self._under_way}, timeout=timeout.total_seconds())
        if not done:
            return None
        under_way, self._under_way = self._under_way, None
        return under_way.result()

    @property
    def is_under_way(self) -> bool:
        """Whether an answer is still to be taken."""
        return self._under_way is not None

    def forget(self) -> None:
        """Drop a call that is under way: what it brings may be older than what is asked for now."""
        self._under_way = None


@cache
def lookups() -> ThreadPoolExecutor:
    """Return the threads that questions to the ledger share."""
    return ThreadPoolExecutor(LOOKUPS_AT_ONCE, "lookup")
