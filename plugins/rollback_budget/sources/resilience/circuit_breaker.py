"""Circuit breakers: one per metric backend and process, so that a failing backend gets few requests."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from random import uniform

from rollback_budget.exceptions import SourceError

log = logging.getLogger(__name__)

#: Failures in a row, of whichever rollouts, after which only probes are sent to a backend.
FAILURES_TO_OPEN = 5
#: How long it is paused then, and at most; twice as long after every probe that fails. At most this part of
#: the time after which a watch would be blind, too: a watch is blind only after some probes.
FIRST_PAUSE_S, LONGEST_PAUSE_S, PART_OF_BLIND_AFTER = 2.0, 60.0, 0.25
#: Pauses are drawn between these parts of their length, so that many processes do not come back at once.
JITTER = (0.7, 1.3)


class CircuitBreaker:
    """Closed while a backend answers; open after failures in a row, with a single probe now and then.

    A backend that refuses a query is one that answers. Times are those of the running event loop.

    :param name: of the backend, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._failures = 0
        self._pause_s = 0.0
        self._longest_pause_s = LONGEST_PAUSE_S
        self._open_until: float | None = None
        self._held_until = 0.0
        self._probing = False
        self._last = ""

    def serve(self, blind_after: timedelta) -> None:
        """Take on a watch that is blind after so long: a backend that is back is noticed before."""
        self._longest_pause_s = min(self._longest_pause_s, PART_OF_BLIND_AFTER * blind_after.total_seconds())

    @property
    def is_open(self) -> bool:
        """Whether only a probe may be sent."""
        return self._open_until is not None

    def held_s(self) -> float:
        """Return how long the backend asked (``Retry-After``) not to be asked, in seconds."""
        return max(self._held_until - _now(), 0.0)

    def admit(self) -> None:
        """Return if the backend may be queried now; every admission ends in exactly one of the calls below.

        :raises SourceError: it may not.
        """
        if self._open_until is None:
            return
        if self._probing or _now() < self._open_until:
            raise self.refusal()
        self._probing = True

    def answered(self) -> None:
        """Note that the backend gave an answer, be it a refusal."""
        if self._open_until is not None:
            log.info("%s answers again", self.name)
        self._failures, self._pause_s, self._open_until = 0, 0.0, None
        self._probing = False

    def failed(self, error: SourceError) -> None:
        """Note that the backend did not answer."""
        self._failures += 1
        self._last = str(error)
        if error.retry_after is not None:
            self._held_until = max(self._held_until, _now() + error.retry_after.total_seconds())
        if self._probing or (self._open_until is None and self._failures >= FAILURES_TO_OPEN):
            self._open()
        self._probing = False

    def abandoned(self) -> None:
        """Note that the request was cancelled before its answer."""
        self._probing = False

    def refusal(self) -> SourceError:
        """Return the error of every request while the circuit is open; the same until its cause changes."""
        return SourceError(
            f"{self.name} does not answer and is only probed, at least once in {self._longest_pause_s:g} s: "
            f"{self._last}",
            transient=True,
        )

    def postponement(self) -> SourceError:
        """Return the error of every request while the backend is rate-limited."""
        return SourceError(
            f"{self.name} is rate-limited for longer than this poll: {self._last}", transient=True
        )

    def _open(self) -> None:
        if self._open_until is None:
            log.warning(
                "%s failed %d times in a row; from now on it is only probed, at least once in %g s: %s",
                self.name,
                self._failures,
                self._longest_pause_s,
                self._last,
            )
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), self._longest_pause_s / JITTER[1])
        self._open_until = _now() + self._pause_s * uniform(*JITTER)  # noqa: S311


def _now() -> float:
    return asyncio.get_running_loop().time()
