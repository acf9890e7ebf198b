"""The noise of one budget at its own traffic: how far two equally good versions lie apart by chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from statistics import fmean, median, stdev

from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.design_effect import design_effect, design_effect_of, relative_error
from rollback_budget.engine.exceedances import add_histograms
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import DEFAULT_QUANTILE, FINITE, Histogram, quantile_in, quantile_of
from rollback_budget.engine.null_boundary import Counts
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.method_plan import Counted, plan_of
from rollback_budget.model.pace import pace_of
from rollback_budget.suggest.record import NoChangeRecord

HOURS = 24
#: Variance between the hours of the day over that within them: far beyond what chance gives.
_CYCLE = 4.0


class Noise(Frozen):
    """One budget's metric without change; deltas are in the unit of the budget's comparison.

    :param known: looks at which both versions are known, of ``looks``.
    :param release_events: behind a look, as usual (median); None where they are not known.
    :param spread_of_look: standard deviation of the delta from look to look.
    :param spread_of_duration: the same over blocks of the budget's duration; None for a duration of 0.
    :param daily_cycle: from the lowest to the highest hour of the day, in the metric's unit; None where there
        is no cycle to be seen, or only one day was recorded.
    """

    looks: int
    known: int
    release_events: float | None
    baseline_events: float | None
    mean_delta: float | None
    spread_of_look: float | None
    spread_of_duration: float | None
    daily_cycle: float | None


class Clustering(Frozen):
    """How clustered requests are.

    :param design_effect: see :func:`~rollback_budget.engine.design_effect.design_effect`.
    :param relative_error: its standard error, as a part of it.
    """

    design_effect: float
    relative_error: float

    @property
    def is_sure(self) -> bool:
        """Whether it is more than 1 by more than two of its standard errors."""
        return self.design_effect - 2.0 * self.standard_error > 1.0

    @property
    def standard_error(self) -> float:
        """How well it is known, in its own unit: what stands behind ± in a reason."""
        return self.design_effect * self.relative_error

    @property
    def careful(self) -> float:
        """One standard error more, so that it is rather too large than too small."""
        return self.design_effect + self.standard_error


def noise_of(record: NoChangeRecord, budget: Budget) -> Noise:
    """Return the noise of one budget."""
    frame = record.frame.of(budget.series)
    arms = frame.arms[budget.series]
    deltas = [delta for _, delta in deltas_of(budget, arms, 1)]
    counts = [[n for n in column if n == n] for column in (arms.release_n, arms.baseline_n)]
    of_release, of_baseline = (median(column) if column else None for column in counts)
    length = budget.max_duration // pace_of(record.spec, budget.metric).every
    blocks = [delta for _, delta in deltas_of(budget, arms, length)] if length else []
    return Noise(
        looks=len(arms.release),
        known=len(deltas),
        release_events=of_release,
        baseline_events=of_baseline,
        mean_delta=fmean(deltas) if deltas else None,
        spread_of_look=stdev(deltas) if len(deltas) > 1 else None,
        spread_of_duration=stdev(blocks) if len(blocks) > 1 else None,
        daily_cycle=_daily_cycle(
            record, frame.times, arms.baseline if budget.comparison.needs_baseline else arms.release
        ),
    )


def deltas_of(budget: Budget, arms: Arms, length: int) -> list[tuple[int, float]]:
    """Return the known deltas over blocks of ``length`` looks, each behind its first look.

    Values of a block are weighted by their events where these are known.
    """
    if budget.comparison is Comparison.INCREASE:
        formula = DELTA_FORMULAS[Comparison.DELTA].delta
    else:
        formula = DELTA_FORMULAS[budget.comparison].delta
    firsts = range(0, len(arms.release) - length + 1, length)
    release = [_mean(arms.release, arms.release_n, first, first + length) for first in firsts]
    baseline = release
    if budget.comparison.needs_baseline:
        baseline = [_mean(arms.baseline, arms.baseline_n, first, first + length) for first in firsts]
    deltas = formula(release, baseline)
    return [(first, delta) for first, delta in zip(firsts, deltas, strict=True) if -FINITE <= delta <= FINITE]


def clustering_of(record: NoChangeRecord, budget: Budget) -> Clustering | None:
    """Return how clustered the requests of one budget are; None where none are counted among others.

    :raises SeriesError: too few counts for an estimate.
    """
    counted = plan_of(record.spec, budget).counted
    arms = record.frame.of(budget.series).arms[budget.series]
    every = pace_of(record.spec, budget.metric).every
    if counted is Counted.EVENTS:
        known = sum(n_c >= 1 and n_t >= 1 for n_c, n_t in zip(arms.baseline_n, arms.release_n, strict=True))
        return Clustering(
            design_effect=design_effect_of(budget, record.frame, every),
            relative_error=relative_error(max(known, 1)),
        )
    if counted is Counted.EXCEEDANCES:
        steps = _slow_ones(budget, arms)
        return Clustering(
            design_effect=design_effect(steps, every), relative_error=relative_error(len(steps))
        )
    return None


def _slow_ones(budget: Budget, arms: Arms) -> list[Counts]:
    """Return the requests beyond the bound next to the quantile, look by look."""
    if not arms.release_buckets:
        raise SeriesError("the samples carry no histogram")
    both = [
        (baseline, release)
        for baseline, release in zip(arms.baseline_buckets, arms.release_buckets, strict=True)
        if baseline and release
    ]
    whole: Histogram = {}
    for baseline, _ in both:
        whole = add_histograms(whole, baseline)
    wanted = quantile_in(whole, quantile_of(budget.metric) or DEFAULT_QUANTILE)
    bound = min((bound for bound in whole if wanted <= bound <= FINITE), default=None)
    if bound is None:
        raise SeriesError("no bound of the histograms lies beyond the quantile")
    steps = []
    for pair in both:
        sizes = [max(histogram.values()) for histogram in pair]
        beyond = [size - histogram.get(bound, size) for size, histogram in zip(sizes, pair, strict=True)]
        if all(sizes):
            steps.append(Counts(round(beyond[0]), round(sizes[0]), round(beyond[1]), round(sizes[1])))
    return steps


def _daily_cycle(record: NoChangeRecord, times: Sequence[int], values: Sequence[float]) -> float | None:
    """Compare the hours of the day with each other, against how the same hour differs between days."""
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for time, value in zip(times, values, strict=True):
        if value == value:
            moment = us_to_datetime(time)
            cells[moment.hour, moment.date().toordinal()].append(value)
    by_hour: dict[int, list[float]] = defaultdict(list)
    for (hour, _), cell in cells.items():
        by_hour[hour].append(fmean(cell))
    if record.recorded < 2 * timedelta(days=1) or any(len(means) < 2 for means in by_hour.values()):
        return None
    if len(by_hour) < 2:
        return None
    levels = {hour: fmean(means) for hour, means in by_hour.items()}
    overall = fmean(mean for means in by_hour.values() for mean in means)
    between = sum(len(means) * (levels[hour] - overall) ** 2 for hour, means in by_hour.items())
    within = sum((mean - levels[hour]) ** 2 for hour, means in by_hour.items() for mean in means)
    free = sum(len(means) - 1 for means in by_hour.values())
    if between / (len(by_hour) - 1) <= _CYCLE * within / free:
        return None
    return max(levels.values()) - min(levels.values())


def _mean(values: list[float], counts: list[float], first: int, stop: int) -> float:
    known = [
        (value, n) for value, n in zip(values[first:stop], counts[first:stop], strict=True) if value == value
    ]
    if not known:
        return float("nan")
    events = sum(n for _, n in known if n == n)
    if events > 0.0 and all(n == n for _, n in known):
        return sum(value * n for value, n in known) / events
    return fmean(value for value, _ in known)
