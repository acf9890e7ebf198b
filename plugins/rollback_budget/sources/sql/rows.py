"""From the rows of a metric query to samples."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError


def sample_of(row: Row[Any]) -> Sample | None:
    """Return the sample of ``time, metric, version, value, n``, ``le`` and ``judge`` where they are there.

    None where a name is NULL.
    """
    if row.version is None or row.metric is None:
        return None
    le, judge = getattr(row, "le", None), getattr(row, "judge", None)
    try:
        return Sample(
            time=time_of(row.time),
            series=str(row.metric),
            version=str(row.version),
            value=math.nan if row.value is None else float(row.value),
            n=None if row.n is None else float(row.n),
            le=None if le is None else float(le),
            judge=None if judge is None else str(judge),
        )
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"the metric query gave value {row.value!r}, n {row.n!r}, le {le!r} for {row.metric} of "
            f"{row.version}; select numbers",
            transient=False,
        ) from error


def time_of(value: Any) -> datetime:
    """Return a time in UTC; raises :class:`SourceError` for one that cannot be placed."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise SourceError(
                f"column time holds {value!r}; give epoch seconds or an ISO 8601 time with its offset",
                transient=False,
            ) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise SourceError(
                f"column time holds {value}, which has no time zone; select epoch seconds or a timestamptz",
                transient=False,
            )
        return value.astimezone(UTC)
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise SourceError(
            f"column time holds {value!r}; give epoch seconds or an ISO 8601 time with its offset",
            transient=False,
        ) from None
