"""Frames: samples laid out as columns over looks, which is what the engine folds."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import repeat
from math import nan
from typing import NamedTuple

from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.spec import RolloutSpec

#: ``-FINITE <= x <= FINITE`` is false for NaN and for both infinities.
FINITE = sys.float_info.max

#: The values and the counts of one series and version, by time.
_Column = tuple[dict[int, float], dict[int, float]]


#: How many events of one step were at most so large, by upper bound.
Histogram = dict[float, float]


class Arms(NamedTuple):
    """Both arms of one series, one entry a look; NaN is unknown.

    A tuple, as everything that every poll of every watch makes anew: a frozen dataclass takes thrice as long.

    :param release_buckets: cumulative histograms, None for a look without; empty when no look has one.
    """

    release: list[float]
    release_n: list[float]
    baseline: list[float]
    baseline_n: list[float]
    release_buckets: Sequence[Histogram | None] = ()
    baseline_buckets: Sequence[Histogram | None] = ()

    def part(self, first: int, stop: int) -> Arms:
        """Return the looks ``first`` to ``stop - 1``; itself when these are all."""
        if first == 0 and stop == len(self.release):
            return self
        return Arms(
            self.release[first:stop],
            self.release_n[first:stop],
            self.baseline[first:stop],
            self.baseline_n[first:stop],
            self.release_buckets[first:stop],
            self.baseline_buckets[first:stop],
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """All looks of a period.

    :param times: of the looks, ascending and distinct, in microseconds.
    :param end: every look up to here is in, in microseconds.
    :param arms: by series; every list is as long as ``times``.
    """

    times: list[int]
    end: int
    arms: dict[str, Arms]


def frame_of(spec: RolloutSpec, samples: Iterable[Sample], *, start: datetime, end: datetime) -> Frame:
    """Lay out the samples of ``start < time <= end``, given in any order, for the budgets of ``spec``.

    There is a look at every sample's time, and one at the end of every step of the grid that has no sample at
    all: that is how holes are seen. The grid lies where the earliest sample lies, else on ``start``.
    Samples of other series or versions are left out. A look with a histogram and no value takes its value
    and its number of events from the histogram, where the metric's name says which quantile it is.

    :raises SeriesError: a naive time, or two different samples for one time, series and version.
    """
    names = dict.fromkeys(budget.series for budget in spec.budgets)
    columns: dict[tuple[str, str], _Column] = {
        (name, version): ({}, {}) for name in names for version in (spec.release, spec.baseline)
    }
    buckets: dict[tuple[str, str], dict[int, Histogram]] = {}
    after, until = datetime_to_us(start), datetime_to_us(end)
    sample_time, time = start, after
    for sample in samples:
        column = columns.get((sample.series, sample.version))
        if column is None:
            continue
        if sample.time is not sample_time:
            sample_time = sample.time
            try:
                time = datetime_to_us(sample_time)
            except TypeError:
                raise SeriesError(
                    f"{_place(sample)}: the time has no time zone; give UTC or an offset"
                ) from None
        if not after < time <= until:
            continue
        if sample.le is not None:
            _add_bucket(buckets.setdefault((sample.series, sample.version), {}).setdefault(time, {}), sample)
            continue
        values, counts = column
        value, n = sample.value, sample.n
        if not -FINITE <= value <= FINITE:
            value = nan
        if n is None or not -FINITE <= n <= FINITE:
            n = nan
        if time in values:
            _check_same(sample, (values[time], counts[time]), (value, n))
        values[time], counts[time] = value, n
    for place, histograms in buckets.items():
        _fill_values(columns[place], histograms, quantile_of(place[0]))
    times = _looks(columns.values(), after, until, duration_to_us(spec.watch.step))
    arms, unknown = {}, repeat(nan)
    for name in names:
        places = (name, spec.release), (name, spec.baseline)
        (release, release_n), (baseline, baseline_n) = columns[places[0]], columns[places[1]]
        of_release, of_baseline = (
            [list(map(buckets.get(place, {}).get, times)) for place in places] if buckets else ([], [])
        )
        arms[name] = Arms(
            list(map(release.get, times, unknown)),
            list(map(release_n.get, times, unknown)),
            list(map(baseline.get, times, unknown)),
            list(map(baseline_n.get, times, unknown)),
            of_release,
            of_baseline,
        )
    return Frame(times, until, arms)


@cache
def quantile_of(series: str) -> float | None:
    """Return which quantile a metric is by its name (``p95``, ``latency_p99``), None when it does not say."""
    named = re.search(r"(?:^|_)p(\d\d\d?)(?:_|$)", series.partition(":")[0])
    return None if named is None else int(named[1]) / 10 ** len(named[1])


def quantile_in(histogram: Histogram, level: float) -> float:
    """Return the quantile, taken to lie evenly inside its bucket; NaN for an empty or unbounded one."""
    bounds = sorted(histogram)
    wanted = level * histogram[bounds[-1]] if bounds else 0.0
    below, start = 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if wanted > 0.0 and count >= wanted:
            return start + (bound - start) * (wanted - below) / (count - below) if bound <= FINITE else nan
        below, start = count, bound
    return nan


def _add_bucket(histogram: Histogram, sample: Sample) -> None:
    assert sample.le is not None
    if not 0.0 <= sample.value <= FINITE or sample.le != sample.le:
        return
    if histogram.setdefault(sample.le, sample.value) != sample.value:
        _check_same(sample, (histogram[sample.le], nan), (sample.value, nan))


def _fill_values(column: _Column, histograms: dict[int, Histogram], level: float | None) -> None:
    values, counts = column
    for time, histogram in histograms.items():
        if level is not None and histogram and time not in values:
            values[time] = quantile_in(histogram, level)
            counts[time] = max(histogram.values())


def _check_same(sample: Sample, before: tuple[float, float], now: tuple[float, float]) -> None:
    if any(old != new and (old == old or new == new) for old, new in zip(before, now, strict=True)):
        raise SeriesError(
            f"{_place(sample)}: two different samples, "
            f"{before[0]:g} (n {before[1]:g}) and {now[0]:g} (n {now[1]:g}); keep one"
        )


def _looks(columns: Iterable[_Column], after: int, until: int, step: int) -> list[int]:
    times: set[int] = set()
    for values, _ in columns:
        times.update(values)
    if len(times) == 1 and until - after == step:
        # A poll that comes in time.
        return list(times)
    phase = min(times, default=after) % step
    sampled = {-((phase - time) // step) for time in times}
    first, last = (after - phase) // step + 1, (until - phase) // step
    times.update(phase + cell * step for cell in range(first, last + 1) if cell not in sampled)
    return sorted(times)


def _place(sample: Sample) -> str:
    return f"{sample.series} of {sample.version} at {sample.time.isoformat()}"
