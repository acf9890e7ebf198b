"""The time column of a table of requests, however it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    and_,
    case,
    cast,
    column,
    extract,
    func,
    literal,
)

#: The Julian day of 1970-01-01, from which SQLite's clock counts.
JULIAN_EPOCH = 2_440_587.5


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column that holds times.

    :param stored_as: a ``timestamp`` without a time zone is taken for UTC.
    """

    name: str
    stored_as: Literal["epoch_s", "epoch_ms", "timestamp"]
    is_sqlite: bool

    def epoch(self) -> ColumnElement[Any]:
        """Return the time in seconds since 1970."""
        stored: ColumnElement[Any] = column(self.name)
        if self.stored_as == "epoch_s":
            return cast(stored, Double)
        if self.stored_as == "epoch_ms":
            return cast(stored, Double) / literal(1000.0, Double)
        if self.is_sqlite:
            return func.round((func.julianday(stored) - JULIAN_EPOCH) * 86_400.0, 3)
        return cast(extract("epoch", stored), Double)

    def bucket(self, step: timedelta, *, names_start: bool = False) -> ColumnElement[int]:
        """Return the number of the step that a time lies in: the step ends at this number times its length.

        Rounding by hand, because casts truncate in one database and round in the next.

        :param names_start: see :meth:`within`.
        """
        ratio = self.epoch() / literal(step.total_seconds(), Double)
        whole = cast(ratio, BigInteger)
        if names_start:
            return whole + case((whole > ratio, 0), else_=1)
        return whole + case((ratio > whole, 1), else_=0)

    def within(self, start: datetime, end: datetime, *, names_start: bool = False) -> ColumnElement[bool]:
        """Return the condition for a range, on the bare column where an index can serve it.

        :param names_start: whether a time is the beginning of what it names; then ``start`` is in and ``end``
            is not, else the other way round.
        """
        stored: ColumnElement[Any] = column(self.name)
        first: Any = start.timestamp()
        last: Any = end.timestamp()
        coarse: list[ColumnElement[bool]] = []
        if self.stored_as == "epoch_ms":
            first, last = first * 1000.0, last * 1000.0
        elif self.stored_as == "timestamp" and self.is_sqlite:
            # Text in one of many ISO forms: the day narrows it down, the clock decides.
            days = (start - timedelta(days=1)).date(), (end + timedelta(days=2)).date()
            coarse = [stored >= days[0].isoformat(), stored < days[1].isoformat()]
            stored = self.epoch()
        elif self.stored_as == "timestamp":
            first, last = (literal(at, DateTime(timezone=True)) for at in (start, end))
        if names_start:
            return and_(*coarse, stored >= first, stored < last)
        return and_(*coarse, stored > first, stored <= last)
