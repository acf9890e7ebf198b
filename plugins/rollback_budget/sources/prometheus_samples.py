"""From the parts of Prometheus' answer to samples: proportions, counts, means, histograms and gauges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, log2, nan
from typing import Any, NamedTuple

from rollback_budget.engine.exceedances import USUAL_LEVEL
from rollback_budget.engine.frame import quantile_in
from rollback_budget.sources.promql import Asked
from rollback_budget.spec.model import MetricKind

#: Where native histograms are cut by default: 1/64 to 128 by eighths of a power of 2, which are bounds of
#: their own buckets from schema 3 on.
NATIVE_BOUNDS = tuple(2.0 ** (eighth / 8) for eighth in range(-6 * 8, 7 * 8 + 1))


@dataclass(slots=True)
class Found:
    """What one part has for one version, by the number of the point in time."""

    values: dict[int, float] = field(default_factory=dict)
    #: By upper bound; None where there are none, as for most of the very many of these.
    buckets: dict[float, dict[int, float]] | None = None
    natives: dict[int, Any] | None = None

    def bucket(self, bound: float) -> dict[int, float]:
        """Return the column of one upper bound."""
        if self.buckets is None:
            self.buckets = {}
        return self.buckets.setdefault(bound, {})

    def add_native(self, number: int, histogram: Any) -> None:
        """Take in a native histogram."""
        if self.natives is None:
            self.natives = {}
        self.natives[number] = histogram


class Point(NamedTuple):
    """A sample without its names."""

    number: int
    value: float
    n: float | None = None
    le: float | None = None


def samples_of(
    asked: Asked, parts: Mapping[str, Found], scale: float, level: float | None
) -> Iterator[Point]:
    """Yield the points of one series of one version.

    :param scale: of increases, to those of one step.
    :param level: the quantile that the metric's name says, None when it does not.
    """
    if "buckets" in parts:
        yield from _classic(parts["buckets"], scale, level)
    elif "native" in parts:
        bounds = asked.query.bounds or NATIVE_BOUNDS
        yield from _native(parts["native"].natives or {}, scale, level, bounds, asked.kind)
    elif "value" in parts:
        counts = parts["n"].values if "n" in parts else {}
        for number, value in parts["value"].values.items():
            yield Point(number, value, counts.get(number))
    elif asked.kind is MetricKind.COUNT:
        yield from _counts(asked, parts, scale)
    else:
        yield from _ratios(asked, parts, scale)


def _ratios(asked: Asked, parts: Mapping[str, Found], scale: float) -> Iterator[Point]:
    some = parts["part"].values
    absent = 0.0 if asked.query.absent == "zero" else nan
    is_proportion = asked.kind is MetricKind.PROPORTION
    for number, total in parts["total"].values.items():
        value = some.get(number, absent) / total if total > 0.0 else nan
        if is_proportion:
            # Failures of a request that began in the step before may be counted in this one.
            value = min(value, 1.0) if value == value else nan
            value = 1.0 - value if asked.query.failures is not None else value
        yield Point(number, value, _count(total, scale))


def _counts(asked: Asked, parts: Mapping[str, Found], scale: float) -> Iterator[Point]:
    """Yield events, which come scaled, with their exposure: none where the total is not known."""
    events = parts["part"].values
    if "total" not in parts:
        for number, count in events.items():
            yield Point(number, count)
        return
    totals = parts["total"].values
    for number, count in events.items():
        yield Point(number, count, _count(totals.get(number, 0.0), scale))
    if asked.query.absent == "zero":
        for number, total in totals.items():
            if number not in events:
                yield Point(number, 0.0, _count(total, scale))


def _classic(found: Found, scale: float, level: float | None) -> Iterator[Point]:
    buckets = found.buckets or {}
    bounds = sorted(buckets)
    numbers = sorted({number for column in buckets.values() for number in column})
    for number in numbers:
        below = 0.0
        histogram = {}
        for bound in bounds:
            count = buckets[bound].get(number)
            if count is not None and isfinite(count):
                below = max(below, _count(count, scale))
                histogram[bound] = below
        yield from _points(number, histogram, level)


def _points(number: int, histogram: Mapping[float, float], level: float | None) -> Iterator[Point]:
    if inf not in histogram:
        return
    for bound, count in histogram.items():
        yield Point(number, count, None, bound)
    # Where the name of the metric says the quantile, the engine reads it from the histogram.
    if level is None:
        yield Point(number, quantile_in(dict(histogram), USUAL_LEVEL), histogram[inf])


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
            yield Point(number, float(native["sum"]) / count if count > 0.0 else nan, _count(count, scale))
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
