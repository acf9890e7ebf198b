"""Freezing the objects of thousands of watches, so that the garbage collector does not walk them."""

from __future__ import annotations

import atexit
import gc
from functools import cache

#: The objects that are alive are frozen each time that this many watches have started or caught up.
EVERY = 100


class GcFreeze:
    """Freezes what watches hold, so that a full collection does not walk it and stop every one of them.

    A frozen object is still freed when the last reference to it goes, as when a watch ends; only cycles are
    not found. The young generations are collected first, so that no fresh garbage is frozen.

    :param every: watches that started, or caught up, between two freezes.
    """

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._count = 0

    def count_watch(self) -> None:
        """Count a watch that has started, or has caught up and will add little from now on."""
        self._count += 1
        if self._count >= self._every:
            self._count = 0
            gc.collect(1)
            gc.freeze()
            # The process ends as it would have ended: what is left is found then.
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)


@cache
def process_gc_freeze() -> GcFreeze:
    """Return the counter that all watches of this process share."""
    return GcFreeze()
