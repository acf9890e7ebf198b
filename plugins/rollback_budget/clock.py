"""The time of day, and the UTC grid on which samples sit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The wall clock may differ by this much from the monotonic one between two readings without having been set.
TOLERANCE = timedelta(seconds=5)
#: A clock set forward is believed when there is data beyond the time that has surely passed by this much:
#: less may be a backend that carries its last sample forward (Prometheus does for 5 min).
PROOF = timedelta(minutes=6)

Now = Callable[[], datetime]
#: Seconds since any moment, by a monotonic clock.
Elapsed = Callable[[], float]


class Log(Protocol):
    """What is asked of a logger: plain ones fit, and Airflow's."""

    def info(self, event: str, *args: object) -> object:
        """Log at level info."""
        ...

    def warning(self, event: str, *args: object) -> object:
        """Log at level warning."""
        ...


def utc_now() -> datetime:
    """Return the time of day, aware."""
    return datetime.now(UTC)


def grid_floor(time: datetime, step: timedelta) -> datetime:
    """Return the last point of the UTC grid of ``step`` that is not after ``time``."""
    return time - (time - EPOCH) % step


class SteadyClock:
    """The wall clock, checked against a monotonic one, so that a watch never reads the future.

    Set back, it is believed at once: a watch that waits loses nothing. Set forward, it is not: looks at times
    that have not come yet would be unknown for good. Then time goes on as it passes until :meth:`believe`. A
    clock that was set back may return to where it was.

    :param wall: the time of day.
    :param elapsed: the monotonic clock; None when ``wall`` cannot be set.
    """

    def __init__(self, wall: Now, elapsed: Elapsed | None, log: Log) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._log = log
        self._time = wall()
        self._at = 0.0 if elapsed is None else elapsed()
        self._ahead = timedelta(0)
        self._behind = timedelta(0)

    def now(self) -> datetime:
        """Return the time that has surely come."""
        wall = self._wall()
        if self._elapsed is None:
            return wall
        at = self._elapsed()
        expected = self._time + timedelta(seconds=at - self._at)
        off = wall - expected
        if off > self._behind + TOLERANCE:
            if not self._ahead:
                self._log.warning("the clock was set forward by %s; looks go on by the time that passes", off)
            self._ahead = off
            return expected
        if off < -TOLERANCE:
            self._log.warning("the clock was set back by %s; looks go on when it has caught up", -off)
            self._behind -= off
        elif off > TOLERANCE:
            self._log.info("the clock was set forward by %s, to where it was before", off)
            self._behind = max(self._behind - off, timedelta(0))
        self._time, self._at, self._ahead = wall, at, timedelta(0)
        return wall

    @property
    def claims(self) -> datetime | None:
        """What a clock set forward says, where data at that time would prove it right; else None."""
        now = self.now()
        return now + self._ahead if self._ahead >= PROOF else None

    def believe(self) -> None:
        """Take the wall clock as it is from now on."""
        if self._ahead:
            self._log.info("there are samples of the time that the clock was set to: it is right")
        self._time, self._at = self._wall(), 0.0 if self._elapsed is None else self._elapsed()
        self._ahead = timedelta(0)
