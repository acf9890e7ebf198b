"""Signs of life of a task that is at work on a rollout for minutes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rollback_budget.common.config import open_ledger
from rollback_budget.exceptions import LedgerError

if TYPE_CHECKING:
    from rollback_budget.ledger.rollout_key import RolloutKey

BEAT_EVERY_S = 15.0


@contextmanager
def beating(key: RolloutKey) -> Iterator[None]:
    """Note in the ledger, now and every few seconds, that somebody is at work; waits for nothing."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.is_set():
            with suppress(LedgerError):
                open_ledger().watch_heartbeats.beat([key])
            is_over.wait(BEAT_EVERY_S)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
