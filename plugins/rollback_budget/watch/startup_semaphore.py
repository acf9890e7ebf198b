"""Taking turns on an event loop that thousands of watches share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

_starts: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@asynccontextmanager
async def starting() -> AsyncIterator[None]:
    """Wait for this watch's turn to start; whatever else is due runs before the next one's."""
    turns = _starts.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(1))
    async with turns:
        yield
        await asyncio.sleep(0)
