"""Engine time: whole microseconds since the epoch, so that comparing two times is exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def datetime_to_us(time: datetime) -> int:
    """Return an aware ``time`` in microseconds; a naive one raises TypeError."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def duration_to_us(duration: timedelta) -> int:
    """Return ``duration`` in microseconds."""
    return duration // MICROSECOND


def us_to_datetime(time_us: int) -> datetime:
    """Return the aware UTC datetime of ``time_us``."""
    return EPOCH + timedelta(microseconds=time_us)


def ceil_to_grid(time_us: int, step_us: int) -> int:
    """Return the first point of the UTC grid of ``step_us`` that is not before ``time_us``."""
    return -(-time_us // step_us) * step_us
