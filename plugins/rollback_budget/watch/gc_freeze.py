"""Keeping the garbage collector away from what thousands of watches hold for hours."""

from __future__ import annotations

import atexit
import gc
from functools import cache

#: So many watches that have started or caught up, and what is alive is set aside; with fewer, never.
EVERY = 100


class GcFreeze:
    """Sets aside what watches hold, so that a full collection does not walk it and stop every one of them.

    What is set aside is still freed when nobody refers to it any more, as a watch is that ends; only cycles
    in it are not found. The young are collected first, so that no fresh garbage is set aside.

    :param every: watches that started, or caught up, since the last time.
    """

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._since = 0

    def grown(self) -> None:
        """Note that one more watch has started, or has caught up and will add little from now on."""
        self._since += 1
        if self._since >= self._every:
            self._since = 0
            gc.collect(1)
            gc.freeze()
            # The process ends as it would have ended: what is left is found then.
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)


@cache
def process_gc_freeze() -> GcFreeze:
    """Return the one that all watches of this process share."""
    return GcFreeze()
