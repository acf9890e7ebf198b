"""The clock of the ledger's host: the one that all standbys and their leases go by."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from rollback_budget.clock import Elapsed, utc_now


class LedgerClock:
    """The ledger's time of day, kept between two answers of the ledger by a monotonic clock.

    This host's own clock counts only until the ledger has answered once.

    :param elapsed: the monotonic clock, seconds.
    """

    def __init__(self, elapsed: Elapsed = time.monotonic) -> None:
        self._elapsed = elapsed
        self._time: datetime | None = None
        self._at = 0.0

    def set(self, now: datetime) -> None:
        """Take the time that the ledger has just answered."""
        self._time, self._at = now, self._elapsed()

    def now(self) -> datetime:
        """Return the time of day, aware."""
        if self._time is None:
            return utc_now()
        return self._time + timedelta(seconds=self._elapsed() - self._at)
