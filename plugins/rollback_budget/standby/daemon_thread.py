"""Blocking calls beside an event loop, in threads that do not keep the process from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(function: Callable[[], T], slots: asyncio.Semaphore) -> T:
    """Return what ``function`` returns, or raise what it raises.

    Cancelled, it goes on in its thread, and what comes of it is dropped.

    :param slots: limits how many run at the same time.
    """
    async with slots:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, failure = None, None
            try:
                value = function()
            except BaseException as error:
                failure = error
            # The loop is closed when the process ends meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, value, failure)

        threading.Thread(target=run, name="standby", daemon=True).start()
        return await done
