"""From when to when a record of samples can be judged, where its metrics have several paces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from rollback_budget.engine.sample import Sample
from rollback_budget.model.pace import Pace, pace_of, paces_of
from rollback_budget.model.spec import RolloutSpec

#: The earliest and the latest time of each series.
Spans = Mapping[str, tuple[datetime, datetime]]


def spans_of(samples: Iterable[Sample]) -> Spans:
    """Return the spans of samples in any order."""
    found: dict[str, tuple[datetime, datetime]] = {}
    for sample in samples:
        first, last = found.get(sample.series, (sample.time, sample.time))
        if not first <= sample.time <= last or sample.series not in found:
            found[sample.series] = (min(first, sample.time), max(last, sample.time))
    return found


def start_of_record(spec: RolloutSpec, spans: Spans) -> datetime:
    """Return where the window of a record begins: one look before its earliest sample.

    Where samples of a faster pace begin within that look, it is where these begin: none of them is unknown.
    """
    steps = {one.series: pace_of(spec, one.metric).every for one in spec.budgets}
    starts: dict[timedelta, datetime] = {}
    for series, (first, _) in spans.items():
        step = steps.get(series, spec.watch.step)
        starts[step] = min(starts.get(step, first - step), first - step)
    step, earliest = min(starts.items(), key=lambda one: one[1])
    return max(start for start in starts.values() if start < earliest + step)


def as_of_record(spec: RolloutSpec, spans: Spans) -> datetime | None:
    """Return when the latest sample of a record was decided, as ``as_of`` of a frame.

    A record ends for every pace at another time: what was to come later of a slow one is not unknown. None
    where all budgets have one pace.
    """
    shifts = {one.series: pace_of(spec, one.metric).shift for one in spec.budgets}
    if len(paces_of(spec)) == 1:
        return None
    decided = (last + shifts[series] for series, (_, last) in spans.items() if series in shifts)
    return max(decided, default=None)


def all_decided(spec: RolloutSpec, spans: Spans) -> datetime:
    """Return when the record of the first pace to end was decided to its end, as the time of an ``as_of``.

    That is later than the latest sample where every metric is late.
    """
    ends: dict[Pace, datetime] = {}
    for one in spec.budgets:
        if one.series in spans:
            pace, last = pace_of(spec, one.metric), spans[one.series][1]
            ends[pace] = max(ends.get(pace, last), last)
    each = (last + pace.shift for pace, last in ends.items())
    return min(each, default=max(last for _, last in spans.values()))
