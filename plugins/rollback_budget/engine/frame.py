"""Frames: samples laid out as columns over looks, which is what the engine folds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import repeat
from math import nan
from typing import Any, NamedTuple

from rollback_budget.engine.arm_columns import ArmColumns
from rollback_budget.engine.histogram import FINITE, Histogram, fault_of, quantile_of, read_quantile
from rollback_budget.engine.judge_change import NOT_ONE_JUDGE
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.pace import paces_of, series_of
from rollback_budget.model.spec import RolloutSpec

#: The values and the counts of one series and version, by time.
_Column = tuple[dict[int, float], dict[int, float]]
#: A series and a version.
_Place = tuple[str, str]
#: A rate may be this far outside of 0 to 1 by float noise.
NEAR_RATE = 1e-9
_ANY = (-FINITE, FINITE)
#: A quantile of exactly 0 is looked at: without traffic, many queries give one.
_QUANTILE = (5e-324, FINITE)
NO_TRAFFIC = "no traffic, or a query that makes 0 of nothing"
UNIT_REMEDY = ": divide in the query, or give the metric `scale: 0.01` where it is in percent"
#: What values of a kind may be; of other kinds, any finite number.
_DOMAINS = {
    MetricKind.PROPORTION: (-NEAR_RATE, 1.0 + NEAR_RATE),
    MetricKind.COUNT: (0.0, FINITE),
    MetricKind.QUANTILE: _QUANTILE,
}


class Arms(NamedTuple):
    """Both arms of one series, one entry a look; NaN is unknown.

    A tuple, as everything that every poll of every watch makes anew: a frozen dataclass takes thrice as long.

    :param release_buckets: cumulative histograms, None for a look without; empty when no look has one.
    :param release_least: whether the value is the least that it can be; empty when it is so at no look.
    :param columns: the same values and counts as arrays, where they were read so and no look has a histogram.
    """

    release: list[float]
    release_n: list[float]
    baseline: list[float]
    baseline_n: list[float]
    release_buckets: Sequence[Histogram | None] = ()
    baseline_buckets: Sequence[Histogram | None] = ()
    release_least: Sequence[bool] = ()
    baseline_least: Sequence[bool] = ()
    columns: ArmColumns | None = None

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
            self.release_least[first:stop],
            self.baseline_least[first:stop],
            None if self.columns is None else self.columns.part(first, stop),
        )

    def changed(self, **lists: Any) -> Arms:
        """Return arms with other lists, by name; what is an array of the old ones is left out."""
        return self._replace(columns=None, **lists)


@dataclass(frozen=True, slots=True)
class Frame:
    """All looks of a period in one pace, and behind it those of the spec's other paces.

    :param times: of the looks, ascending and distinct, in microseconds.
    :param end: every look up to here is in, in microseconds.
    :param arms: by series; every list is as long as ``times``.
    :param invalid: by series and time, why what came is not taken for a value; it is unknown.
    :param other_bounds: by series and time, what is said where both versions' histograms have other bounds.
    :param judges: by series and time, what scored the values, where known.
    :param others: the frames of the other paces, in the order of ``paces_of``.
    """

    times: list[int]
    end: int
    arms: dict[str, Arms]
    invalid: dict[str, dict[int, str]] = field(default_factory=dict)
    other_bounds: dict[str, dict[int, str]] = field(default_factory=dict)
    judges: dict[str, dict[int, str]] = field(default_factory=dict)
    others: tuple[Frame, ...] = ()

    @property
    def paces(self) -> tuple[Frame, ...]:
        """The frames of every pace."""
        return (self, *self.others)

    def of(self, series: str) -> Frame:
        """Return the frame that holds ``series``."""
        return next(frame for frame in self.paces if series in frame.arms)


def domain_of(kind: MetricKind) -> tuple[float, float]:
    """Return the least and the greatest value that a metric of ``kind`` can have."""
    return _DOMAINS.get(kind, _ANY)


def frame_of(
    spec: RolloutSpec,
    samples: Iterable[Sample],
    *,
    start: datetime,
    end: datetime,
    as_of: datetime | None = None,
    strict: bool = True,
) -> Frame:
    """Lay out the samples of ``start < time <= end``, given in any order, for the budgets of ``spec``.

    Every pace has a frame of its own.

    :param as_of: leave out the looks of a slower pace that are decided after those of ``watch.settle`` of
        this time; None for none.
    :param strict: refuse two different samples for one time, series and version; else that look is unknown.
    :raises SeriesError: a naive time, or, where it is strict, two such samples.
    """
    paces = paces_of(spec)
    if len(paces) > 1:
        samples = tuple(samples)
    frames = []
    for pace in paces:
        until = end if as_of is None else max(min(end, as_of - pace.shift), start)
        series = series_of(spec, pace)
        frames.append(
            pace_frame(spec, series, samples, start=start, end=until, step=pace.every, strict=strict)
        )
    return join_paces(frames)


def join_paces(frames: Sequence[Frame]) -> Frame:
    """Return one frame of those of every pace, given in the order of the spec."""
    first, *others = frames
    return replace(first, others=tuple(others)) if others else first


def pace_frame(
    spec: RolloutSpec,
    series: Iterable[str],
    samples: Iterable[Sample],
    *,
    start: datetime,
    end: datetime,
    step: timedelta,
    strict: bool = True,
) -> Frame:
    """Lay out the samples of the ``series`` of one pace.

    There is a look at every sample's time, and one at the end of every step of the grid that has no sample at
    all: that is how holes are seen. The grid lies where the earliest sample lies, else on that of UTC.
    Samples of other series or versions are left out. A look with a histogram and no value takes its value
    and its number of events from the histogram, where the metric's name says which quantile it is; one beyond
    the largest bound takes that as the least. What cannot be a value of its kind is unknown.

    :param step: how long a look is.
    :param strict: see :func:`frame_of`.
    :raises SeriesError: see :func:`frame_of`.
    """
    names = dict.fromkeys(series)
    scales = {name: scale for name in names if (scale := spec.metric(name.partition(":")[0]).scale) != 1.0}
    if scales:
        samples = _scaled(samples, scales)
    columns: dict[_Place, _Column] = {
        (name, version): ({}, {}) for name in names for version in (spec.release, spec.baseline)
    }
    domains = {name: domain_of(spec.metric(name.partition(":")[0]).kind) for name in names}
    buckets: dict[_Place, dict[int, Histogram]] = {}
    invalid: dict[str, dict[int, str]] = {}
    twice: set[tuple[_Place, int]] = set()
    judged: dict[str, dict[int, dict[str, str]]] = {}
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
        if sample.judge is not None:
            judged.setdefault(sample.series, {}).setdefault(time, {})[sample.version] = sample.judge
        if sample.le is not None:
            place = (sample.series, sample.version)
            histograms = buckets.setdefault(place, {})
            if (place, time) in twice:
                continue
            said = _add_bucket(histograms.setdefault(time, {}), sample)
            if said is not None:
                _refuse(said, strict=strict)
                twice.add((place, time))
                histograms[time] = {}
                invalid.setdefault(sample.series, {})[time] = said
            continue
        values, counts = column
        value, n = sample.value, sample.n
        least, most = domains[sample.series]
        if not least <= value <= most or (n is not None and not 0.0 <= n <= FINITE):
            reason = _why_invalid(sample, least, most)
            if reason is not None:
                invalid.setdefault(sample.series, {})[time] = reason
            if reason is not None or not -FINITE <= value <= FINITE:
                value = nan
        if n is None or not 0.0 <= n <= FINITE:
            n = nan
        if time in values:
            said = _other_than(sample, (values[time], counts[time]), (value, n))
            if said is not None:
                _refuse(said, strict=strict)
                invalid.setdefault(sample.series, {})[time] = said
                value = n = nan
        values[time], counts[time] = value, n
    for place, histograms in buckets.items():
        for time, fault in _drop_faulty(columns[place], histograms, quantile_of(place[0])):
            invalid.setdefault(place[0], {})[time] = f"{place[1]}: {fault}"
    judges = {name: _agreed(by_time, invalid.setdefault(name, {})) for name, by_time in judged.items()}
    for name, by_time in judges.items():
        for time in judged[name].keys() - by_time.keys():
            for version in (spec.release, spec.baseline):
                columns[name, version][0][time] = nan
                buckets.get((name, version), {}).pop(time, None)
    other_bounds: dict[str, dict[int, str]] = {}
    for name in names if buckets else ():
        both = [buckets.get((name, version)) for version in (spec.release, spec.baseline)]
        if both[0] and both[1] and (differ := _other_bounds(both[0], both[1])):
            other_bounds[name] = differ
    lower_bounds: dict[_Place, set[int]] = {}
    for place, histograms in buckets.items():
        level = quantile_of(place[0])
        if level is not None and (least_at := _fill_values(columns[place], histograms, level)):
            lower_bounds[place] = least_at
    times = _looks(columns.values(), after, until, duration_to_us(step))
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
            *(
                [[time in lower_bounds.get(place, ()) for time in times] for place in places]
                if lower_bounds
                else ()
            ),
        )
    return Frame(times, until, arms, invalid, other_bounds, judges)


def _scaled(samples: Iterable[Sample], scales: Mapping[str, float]) -> Iterator[Sample]:
    """Yield the samples in the unit of their metrics."""
    for sample in samples:
        scale = scales.get(sample.series)
        if scale is None:
            yield sample
        elif sample.le is None:
            yield sample._replace(value=scale * sample.value)
        else:
            yield sample._replace(le=scale * sample.le)


def _add_bucket(histogram: Histogram, sample: Sample) -> str | None:
    """Add one bucket; return what is said where another count came for it."""
    assert sample.le is not None
    if not 0.0 <= sample.value <= FINITE or sample.le != sample.le:
        return None
    if histogram.setdefault(sample.le, sample.value) != sample.value:
        return _other_than(sample, (histogram[sample.le], nan), (sample.value, nan))
    return None


def _drop_faulty(
    column: _Column, histograms: dict[int, Histogram], level: float | None
) -> list[tuple[int, str]]:
    """Leave out the histograms that cannot be trusted, with values that come of them; return why."""
    values, counts = column
    faulty = [(time, fault) for time, found in histograms.items() if (fault := fault_of(found)) is not None]
    for time, _ in faulty:
        del histograms[time]
        # A value that was given beside it, by the name of the metric, does not come of it.
        if level is None or time not in values:
            values[time] = counts[time] = nan
    return faulty


def _other_bounds(release: dict[int, Histogram], baseline: dict[int, Histogram]) -> dict[int, str]:
    """Return what is said of the times at which both versions have histograms of other bounds."""
    said = {}
    for time in sorted(release.keys() & baseline.keys()):
        one, other = release[time].keys(), baseline[time].keys()
        if one != other:
            said[time] = (
                "the histograms of both versions have other bounds, and are compared on those that both have:"
                f" {len(one & other)} of {len(one | other)}"
            )
    return said


def _agreed(judged: Mapping[int, Mapping[str, str]], invalid: dict[int, str]) -> dict[int, str]:
    """Return the judge of each look; a look whose versions were scored by two is added to ``invalid``."""
    agreed = {}
    for time, by_version in judged.items():
        names = set(by_version.values())
        if len(names) == 1:
            agreed[time] = names.pop()
        else:
            said = " and ".join(f"{version} by {judge}" for version, judge in sorted(by_version.items()))
            invalid[time] = f"{NOT_ONE_JUDGE}, {said}"
    return agreed


def _fill_values(column: _Column, histograms: dict[int, Histogram], level: float) -> set[int]:
    """Read the values out of the histograms; return the times at which only the least value is known."""
    values, counts = column
    at_least = set()
    for time, histogram in histograms.items():
        if histogram and time not in values:
            values[time], is_least = read_quantile(histogram, level)
            counts[time] = max(histogram.values())
            if is_least:
                at_least.add(time)
    return at_least


def _why_invalid(sample: Sample, least: float, most: float) -> str | None:
    """Say why a sample is no value of its kind; None for one that is, and for one that is only unknown."""
    value, n = sample.value, sample.n
    if sample.fault is not None:
        return f"{sample.version}: {sample.fault}"
    if not -FINITE <= value <= FINITE:
        return None
    if n is not None and -FINITE <= n < 0.0:
        return f"{sample.version} came with n = {n:g}"
    if least <= value <= most:
        return None
    if (least, most) == _QUANTILE:
        # Zero has a domain of its own; what is below is a number like any other.
        known = n is not None and n == n and n > 0.0
        return None if value or known else f"{sample.version} came with exactly 0 and no count: {NO_TRAFFIC}"
    said = f"{sample.version} came with {value:g}"
    if most < FINITE:
        return f"{said}, and a proportion lies between 0 and 1{UNIT_REMEDY}"
    return f"{said}, and events are never fewer than {least:g}"


def _other_than(sample: Sample, before: tuple[float, float], now: tuple[float, float]) -> str | None:
    """Return what is said of a second sample for one time, series and version; None where it is the same."""
    if all(old == new or (old != old and new != new) for old, new in zip(before, now, strict=True)):
        return None
    return (
        f"{_place(sample)}: two different samples, "
        f"{before[0]:g} (n {before[1]:g}) and {now[0]:g} (n {now[1]:g}); keep one"
    )


def _refuse(said: str, *, strict: bool) -> None:
    if strict:
        raise SeriesError(said)


def _looks(columns: Iterable[_Column], after: int, until: int, step: int) -> list[int]:
    times: set[int] = set()
    for values, _ in columns:
        times.update(values)
    if len(times) == 1 and until - after == step:
        # A poll that comes in time.
        return list(times)
    phase = min(times, default=0) % step
    sampled = {-((phase - time) // step) for time in times}
    first, last = (after - phase) // step + 1, (until - phase) // step
    times.update(phase + cell * step for cell in range(first, last + 1) if cell not in sampled)
    return sorted(times)


def _place(sample: Sample) -> str:
    return f"{sample.series} of {sample.version} at {sample.time.isoformat()}"
