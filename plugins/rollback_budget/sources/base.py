"""What every metric source keeps to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeGuard

from rollback_budget.engine.sample import Sample
from rollback_budget.model.spec import RolloutSpec


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
    """Where samples come from. Implementations raise :class:`~rollback_budget.exceptions.SourceError`."""

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


OpenSource = Callable[[RolloutSpec], Awaitable[Source]]
