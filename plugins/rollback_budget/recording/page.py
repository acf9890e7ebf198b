"""Pages: the samples of a stretch of time, as a file of recorded series may hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf, isfinite, isnan, nan

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.sources.base import SeriesRequest

_TWICE = "two different samples came for one time"


@dataclass(frozen=True)
class Page:
    """The samples of ``start < time <= end``, sorted."""

    start: datetime
    end: datetime
    samples: list[Sample]


def samples_for(request: SeriesRequest, answer: Iterable[Sample]) -> list[Sample]:
    """Return what a source answered to ``request``, each place once, without what was not asked for.

    What a file of recorded series cannot hold and a watch takes for unknown is unknown here, with its fault:
    two different samples for one time, a negative number of events.

    :raises SourceError: a time without a zone.
    """
    versions, series = (request.release, request.baseline), set(request.series)
    found: dict[tuple[datetime, str, str, float | None], Sample] = {}
    broken: dict[tuple[datetime, str, str], str] = {}
    for given in answer:
        if given.series not in series or given.version not in versions:
            continue
        if given.time.tzinfo is None:
            raise SourceError(
                f"{given.series} of {given.version}: the time {given.time.isoformat()} has no time zone; its"
                " source must give UTC",
                transient=False,
            )
        if not request.start < given.time <= request.end:
            continue
        sample = _plain(given)
        first = found.setdefault((sample.time, sample.series, sample.version, sample.le), sample)
        if first is not sample and not _same(first, sample):
            broken[sample.time, sample.series, sample.version] = _TWICE
    if broken:
        for place in [place for place in found if place[:3] in broken]:
            del found[place]
        for (time, name, version), fault in broken.items():
            found[time, name, version, None] = Sample(time, name, version, nan, fault=fault)
    return sorted(found.values(), key=order)


def order(sample: Sample) -> tuple[datetime, str, str, float]:
    """Return the key by which samples are sorted in a page; a value comes before its histogram."""
    return sample.time, sample.series, sample.version, -inf if sample.le is None else sample.le


def _plain(sample: Sample) -> Sample:
    """Return a sample of plain numbers, in UTC; one that cannot be is unknown and says why."""
    value, n = float(sample.value), None if sample.n is None else float(sample.n)
    le, fault = None if sample.le is None else float(sample.le), sample.fault
    if n is not None and not isfinite(n):
        n = None
    if n is not None and n < 0.0:
        value, n, fault = nan, None, fault or f"it came with n = {n:g}"
    return Sample(
        sample.time.astimezone(UTC), sample.series, sample.version, value, n, le, fault, sample.judge
    )


def _same(first: Sample, second: Sample) -> bool:
    same_value = first.value == second.value or (isnan(first.value) and isnan(second.value))
    return same_value and first.n == second.n
