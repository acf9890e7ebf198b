"""Samples: one metric of one version in one time bucket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeGuard


class Sample(NamedTuple):
    """What a source delivers; a tuple, because a day of a rollout is ten thousand of them.

    :param time: aware; the sample covers ``(time - step, time]``.
    :param series: ``metric`` or ``metric:slice``.
    :param version: release or baseline, by its name.
    :param value: NaN or infinite means unknown.
    :param n: number of events behind the value (for counts: the exposure), None when not known.
    :param le: upper bound, for cumulative histogram buckets.
    """

    time: datetime
    series: str
    version: str
    value: float
    n: float | None = None
    le: float | None = None


class SeriesRequest(NamedTuple):
    """The question a source answers: these series, both versions, ``start < time <= end``.

    ``start`` and ``end`` lie on the UTC grid of ``step``.
    """

    series: tuple[str, ...]
    release: str
    baseline: str
    start: datetime
    end: datetime
    step: timedelta


class Source(Protocol):
    """Where samples come from. Implementations raise :class:`~rollback_budget.errors.SourceError`."""

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``, in any order, in as few backend requests as possible."""
        ...


class Watermarked(Protocol):
    """A source that knows up to where everything is in; a watch decides no look beyond."""

    async def settled_until(self) -> datetime | None:
        """Return the time up to which nothing more is to come, None when nothing is in at all."""
        ...


def is_watermarked(source: object) -> TypeGuard[Watermarked]:
    """Whether a source is one; ``isinstance`` with a protocol would take longer than the rest of a fetch."""
    return hasattr(source, "settled_until")
