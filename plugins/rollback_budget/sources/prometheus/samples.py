"""From the parts of Prometheus' answer to samples: proportions, counts, means, histograms and gauges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from math import inf, isfinite, log2, nan
from typing import Any

from rollback_budget.engine.histogram import DEFAULT_QUANTILE, quantile_in
from rollback_budget.model.metric import MetricKind
from rollback_budget.sources.prometheus.promql import RECOVERS_WITHIN, Counters, QueriedSeries

#: Where native histograms are cut by default: 1/64 to 128 by eighths of a power of 2, which are bounds of
#: their own buckets from schema 3 on.
NATIVE_BOUNDS = tuple(2.0 ** (eighth / 8) for eighth in range(-6 * 8, 7 * 8 + 1))

#: Of one part and one version, by the number of the point in time.
Column = dict[int, float]
#: A sample without its names: number of the point, value, ``n`` and ``le``. A plain tuple, because every poll
#: of every watch makes some.
Point = tuple[int, float, float | None, float | None]
_NOTHING: Column = {}
_SEVERAL = (
    "its counter falls again and again, as several processes do that answer at one address in turn, or one "
    "that restarts all the time; let each be scraped by itself, or let one of them add them up"
)


class AnswerSamples:
    """What an answer has, by part and version."""

    __slots__ = ("buckets", "faults", "natives", "not_so", "values")

    def __init__(self) -> None:
        #: Why a part cannot be read.
        self.faults: dict[str, str] = {}
        self.values: dict[tuple[str, str], Column] = {}
        #: By upper bound.
        self.buckets: dict[tuple[str, str], dict[float, Column]] = {}
        self.natives: dict[tuple[str, str], dict[int, Any]] = {}
        #: By version, at which points what was taken for granted of a counter is not so, and what it is.
        self.not_so: dict[str, dict[int, Counters]] = {}

    def column(self, part: str, version: str, bound: float | None) -> Column:
        """Return where the values of one series go."""
        place = part, version
        if bound is not None:
            return self.buckets.setdefault(place, {}).setdefault(bound, {})
        column = self.values.get(place)
        if column is None:
            column = self.values[place] = {}
        return column

    def add_native(self, part: str, version: str, number: int, histogram: Any) -> None:
        """Take in a native histogram."""
        self.natives.setdefault((part, version), {})[number] = histogram


def samples_of(
    queried: QueriedSeries, found: AnswerSamples, version: str, scale: float, level: float | None
) -> Iterable[Point]:
    """Return the points of one series of one version.

    :param scale: of increases of native histograms, to those of one step.
    :param level: the quantile that the metric's name says, None when it does not.
    """
    parts = queried.parts
    if "buckets" in parts:
        buckets = found.buckets.get((parts["buckets"], version), {})
        return _classic({bound: rises(column) for bound, column in buckets.items()}, level)
    if "native" in parts:
        natives = found.natives.get((parts["native"], version), {})
        return _native(natives, scale, level, queried.query.bounds or NATIVE_BOUNDS, queried.kind)
    columns = {role: found.values.get((part, version), _NOTHING) for role, part in parts.items()}
    if "value" in columns:
        counts = columns.get("n", _NOTHING)
        return [(number, value, counts.get(number), None) for number, value in columns["value"].items()]
    for role in ("part", "total"):
        if role in columns:
            columns[role] = rises(columns[role])
    if "before" in columns:
        # Whoever was not there at all a step ago, was not scraped: that is no birth.
        before = columns["before"]
        columns["total"] = {at: total for at, total in columns["total"].items() if at in before}
        columns["part"] = {at: part for at, part in columns["part"].items() if at in before}
    return (_counts if queried.kind is MetricKind.COUNT else _ratios)(queried, columns)


def faults_of(queried: QueriedSeries, found: AnswerSamples, version: str) -> Mapping[int, str]:
    """Return why some points of one series of one version cannot be read, by their numbers."""
    falls = found.values.get((queried.parts.get("falls", ""), version), _NOTHING)
    return dict.fromkeys(falls, _SEVERAL)


def rises(column: Column) -> Column:
    """Return by how much a counter rose in each step, given its differences.

    What it fell is made up for by its next rises, and is no rise itself: 7, 6, 7, 8 rose once.
    """
    if all(difference >= 0.0 for difference in column.values()):
        return column
    rose: Column = {}
    height, lately = 0.0, [(-(2**62), 0.0)]
    for number in sorted(column):
        difference = column[number]
        if not isfinite(difference):
            rose[number] = nan
            continue
        # How high it stood just before, and in the steps before that.
        since = number - RECOVERS_WITHIN
        lately = [*(one for one in lately[:-1] if one[0] >= since), lately[-1]]
        highest = max(level for _, level in lately)
        is_highest = lately[-1][1] == highest
        height += difference
        # Not from heights where it can be had without their rounding.
        rose[number] = difference if is_highest and difference >= 0.0 else max(height - highest, 0.0)
        lately.append((number, height))
    return rose


def _ratios(queried: QueriedSeries, columns: Mapping[str, Column]) -> list[Point]:
    some = columns["part"]
    absent = 0.0 if queried.query.absent == "zero" else nan
    is_proportion, is_failures = queried.kind is MetricKind.PROPORTION, queried.query.failures is not None
    points: list[Point] = []
    for number, total in columns["total"].items():
        value = some.get(number, absent) / total if total > 0.0 else nan
        if is_proportion:
            # Failures of a request that began in the step before may be counted in this one.
            value = min(value, 1.0) if value == value else nan
            value = 1.0 - value if is_failures else value
        points.append((number, value, total, None))
    return points


def _counts(queried: QueriedSeries, columns: Mapping[str, Column]) -> Iterator[Point]:
    """Yield events with their exposure: none where the total is not known."""
    events = columns["part"]
    totals = columns.get("total")
    for number, count in events.items():
        yield number, count, None if totals is None else totals.get(number, 0.0), None
    if totals is not None and queried.query.absent == "zero":
        for number, total in totals.items():
            if number not in events:
                yield number, 0.0, total, None


def _classic(buckets: Mapping[float, Column], level: float | None) -> Iterator[Point]:
    bounds = sorted(buckets)
    numbers = sorted({number for column in buckets.values() for number in column})
    for number in numbers:
        histogram = {}
        for bound in bounds:
            count = buckets[bound].get(number)
            if count is not None and isfinite(count):
                histogram[bound] = count
        yield from _points(number, histogram, level)


def _points(number: int, histogram: Mapping[float, float], level: float | None) -> Iterator[Point]:
    for bound, count in histogram.items():
        yield number, count, None, bound
    # Where the name of the metric says the quantile, the engine reads it from the histogram, and says what is
    # wrong with one that has no bucket for all.
    if level is None and inf in histogram:
        yield number, quantile_in(dict(histogram), DEFAULT_QUANTILE), histogram[inf], None


def _native(
    natives: Mapping[int, Any],
    scale: float,
    level: float | None,
    bounds: tuple[float, ...],
    kind: MetricKind,
) -> Iterator[Point]:
    for number, native in natives.items():
        count = float(native["count"])
        if kind is MetricKind.MEAN:
            yield number, float(native["sum"]) / count if count > 0.0 else nan, _count(count, scale), None
            continue
        yield from _points(number, _cut(native, bounds, scale), level)


def _cut(native: Mapping[str, Any], bounds: tuple[float, ...], scale: float) -> dict[float, float]:
    """Return how many events are at most each of ``bounds``; one inside a bucket parts it by logarithm."""
    cut = [0.0] * (len(bounds) + 1)
    for _, left, right, count in native.get("buckets", ()):
        lower, upper, events = float(left), float(right), float(count) * scale
        first = bisect_left(bounds, lower) if lower > 0.0 else 0
        done = 0.0
        for at in range(first, len(bounds)):
            if bounds[at] >= upper:
                break
            share = _share(lower, upper, bounds[at])
            cut[at] += events * (share - done)
            done = share
        else:
            at = len(bounds)
        cut[at] += events * (1.0 - done)
    total, histogram = 0.0, {}
    for bound, events in zip((*bounds, inf), cut, strict=True):
        total += events
        histogram[bound] = round(total, 6)
    return histogram


def _count(increase: float, scale: float) -> float:
    """Return the events of one step, rid of the noise that would make 4 of them 3.9999999999999996."""
    return round(increase * scale, 6)


def _share(lower: float, upper: float, bound: float) -> float:
    if bound <= lower:
        return 0.0
    if lower <= 0.0:
        return (bound - lower) / (upper - lower)
    return log2(bound / lower) / log2(upper / lower)
