"""The time of day, and the UTC grid on which samples sit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """Return the time of day, aware."""
    return datetime.now(UTC)


def grid_floor(time: datetime, step: timedelta) -> datetime:
    """Return the last point of the UTC grid of ``step`` that is not after ``time``."""
    return time - (time - EPOCH) % step
