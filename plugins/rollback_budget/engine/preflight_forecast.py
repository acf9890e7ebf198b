"""Preflight forecasts: what the samples of the last hour let each budget of a watch expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import isnan

from pydantic import AwareDatetime

from rollback_budget.engine.detection import expected_detection, expected_exceedance_detection
from rollback_budget.engine.evaluation import BudgetEvaluation
from rollback_budget.engine.fold import Fold, Window
from rollback_budget.engine.forecast_warnings import (
    BudgetSamples,
    Column,
    errors_of,
    share_of_release,
    warnings_of,
)
from rollback_budget.engine.frame import Arms, Frame, join_paces, pace_frame
from rollback_budget.engine.histogram import DEFAULT_QUANTILE, FINITE, quantile_in, quantile_of
from rollback_budget.engine.judge_change import recorded_judges
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import duration_to_us, us_to_datetime
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.duration import write_duration
from rollback_budget.model.method_plan import Counted, plan_of
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.pace import Pace, most_looks, pace_of, paces_of, series_of
from rollback_budget.model.spec import RolloutSpec

#: How far back preflight looks for the baseline's traffic.
LOOK_BACK = timedelta(hours=1)
#: So many looks of a slow metric a forecast is made from, at least.
FEWEST_LOOKS = 12
#: Harm that is forecast, in multiples of the threshold.
HARMS = (2.0, 4.0)
#: What is said instead of a time that no judge stays for.
JUDGES_CHANGE = "never: its judges change"


class ArmForecast(Frozen):
    """One version over the period of a forecast; None is unknown.

    :param value: of the whole span: events for a count, else the mean (weighted by events) or the quantile.
    :param per_minute: events behind the value (for counts: the exposure), per minute.
    :param known: of how many looks something is known.
    """

    value: float | None = None
    per_minute: float | None = None
    known: int = 0


class Forecast(Frozen):
    """When harm of this many times the threshold would be found.

    :param after: None when it is not forecast, or not within the window; ``words`` say which.
    """

    harm: float
    after: timedelta | None
    words: str = ""


class BudgetForecast(Frozen):
    """What one budget can expect.

    :param start: where the first look at its values begins; earlier than the whole for a slow or late metric.
    :param looks: how many there are from ``start`` on, known or not.
    :param per_arm: events per minute and version that the forecasts assume once the release is shipped.
    :param errors: why the budget cannot be watched as it is; a rollout with one is not shipped.
    """

    budget: str
    series: str
    unit: str
    kind: MetricKind
    start: AwareDatetime
    looks: int
    release: ArmForecast
    baseline: ArmForecast
    method: Method
    method_reason: str
    per_arm: float | None
    forecasts: tuple[Forecast, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...] = ()


class PreflightForecast(Frozen):
    """What every budget of a rollout can expect, from the samples of a span of time."""

    release: str
    baseline: str
    start: AwareDatetime
    end: AwareDatetime
    looks: int
    budgets: tuple[BudgetForecast, ...]


def forecast_watch(
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    start: datetime,
    end: datetime,
    record_from: datetime | None = None,
) -> PreflightForecast:
    """Return what ``samples`` of ``start < time <= end`` promise; the release may have no traffic yet.

    Of metrics that are slower than ``watch.step``, as much is looked at as :func:`span_of` says.

    :param record_from: from where on values can be there at all; None where as much was asked for as is
        looked at.
    :raises SeriesError: samples that cannot be trusted.
    """
    spans = {pace: span_of(spec, pace, start, end) for pace in paces_of(spec)}
    if record_from is not None:
        spans = {
            pace: _in_record(span, pace, _times_of(spec, pace, samples), record_from, end)
            for pace, span in spans.items()
        }
    frames = join_paces(
        [
            pace_frame(spec, series_of(spec, pace), samples, start=begin, end=until, step=pace.every)
            for pace, (begin, until) in spans.items()
        ]
    )
    decided = _decided(spec, frames, min(begin for begin, _ in spans.values()), end)
    by_series = _by_series(samples)
    budgets = []
    for budget, snapshot in zip(spec.budgets, decided, strict=True):
        frame = frames.of(budget.series)
        arms = frame.arms[budget.series]
        pace = pace_of(spec, budget.metric)
        begin, until = spans[pace]
        own_pace = spec.metric(budget.metric).has_own_pace
        first = _first_look(frame, pace, begin) if own_pace else begin
        last = us_to_datetime(frame.times[-1]) if own_pace and frame.times else until
        minutes = max((last - first) / timedelta(minutes=1), 1.0)
        starts = [Column(others.baseline, (), ()).known[:1] for others in frame.arms.values()]
        first_known = min((known[0] for known in starts if known), default=None)
        release = Column(arms.release, arms.release_n, arms.release_buckets)
        baseline = Column(arms.baseline, arms.baseline_n, arms.baseline_buckets)
        came = by_series.get(budget.series, {})
        found = BudgetSamples(
            spec,
            budget,
            release,
            baseline,
            snapshot,
            came,
            first_known,
            begin,
            until,
            frame.invalid.get(budget.series, {}),
            next(iter(frame.other_bounds.get(budget.series, {}).values()), None),
            recorded_judges(frame.judges.get(budget.series, {}), frame.times, duration_to_us(pace.every)),
        )
        budgets.append(_budget(found, minutes, first, len(frame.times)))
    return PreflightForecast(
        release=spec.release,
        baseline=spec.baseline,
        start=start,
        end=end,
        looks=max(len(frame.times) for frame in frames.paces),
        budgets=tuple(budgets),
    )


def span_of(spec: RolloutSpec, pace: Pace, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the span of a pace that a forecast from ``start`` to ``end`` looks at.

    It ends with the newest look that is decided at the end, and begins early enough for some looks. What
    comes later than the rest is of as much earlier, an hour of it at most.
    """
    until = end - max(pace.shift, timedelta(0))
    if pace.every > spec.watch.step:
        return min(start, until - FEWEST_LOOKS * pace.every), until
    return min(start, until - min(end - start, LOOK_BACK)), until


def _times_of(spec: RolloutSpec, pace: Pace, samples: Sequence[Sample]) -> list[datetime]:
    """Return the times of what came in one pace."""
    names = frozenset(series_of(spec, pace))
    return [sample.time for sample in samples if sample.series in names]


def _in_record(
    span: tuple[datetime, datetime],
    pace: Pace,
    came: Sequence[datetime],
    record_from: datetime,
    end: datetime,
) -> tuple[datetime, datetime]:
    """Return the part of a span of which a record can have values.

    A look that began before the record, or settled after it, counts only where its value came.
    """
    begin, until = span
    if begin <= record_from:
        whole = record_from + pace.every - timedelta(microseconds=1)
        is_empty = not any(record_from < time <= whole for time in came)
        begin = whole if is_empty and record_from + pace.every not in came else record_from
    settled = end - pace.lag
    if pace.shift > timedelta(0) and not any(settled < time <= until for time in came):
        until = settled
    return min(begin, until), until


def _first_look(frame: Frame, pace: Pace, begin: datetime) -> datetime:
    """Return where the first look of a span begins: looks of an own pace lie where its samples lie."""
    return us_to_datetime(frame.times[0]) - pace.every if frame.times else begin


def _budget(found: BudgetSamples, minutes: float, start: datetime, looks: int) -> BudgetForecast:
    spec, budget = found.spec, found.budget
    release, baseline = (_arm(spec, budget, column, minutes) for column in (found.release, found.baseline))
    per_arm = _per_arm(spec, release, baseline)
    metric = spec.metric(budget.metric)
    return BudgetForecast(
        budget=budget.id,
        series=budget.series,
        unit=metric.unit,
        kind=metric.kind,
        start=start,
        looks=looks,
        release=release,
        baseline=baseline,
        method=found.snapshot.method,
        method_reason=found.snapshot.method_reason,
        per_arm=per_arm,
        forecasts=_forecasts(found, release if baseline.value is None else baseline, per_arm),
        warnings=warnings_of(found),
        errors=errors_of(found),
    )


def _decided(spec: RolloutSpec, frame: Frame, start: datetime, end: datetime) -> tuple[BudgetEvaluation, ...]:
    """Return how the engine would decide, were a version without traffic like the one that has some."""
    at_once = spec.model_copy(update={"watch": spec.watch.model_copy(update={"grace": timedelta(0)})})
    fold = Fold(at_once, Window(start, end), watch_blind=False, keep_going=True)
    fold.fold(join_paces([replace(one, arms=_as_if_both(one), others=()) for one in frame.paces]))
    return fold.evaluation().budgets


def _as_if_both(frame: Frame) -> dict[str, Arms]:
    """Return the arms, a version without traffic being like the other one."""
    arms = {}
    for series, both in frame.arms.items():
        if all(isnan(value) for value in both.release):
            both = both.changed(
                release=both.baseline, release_n=both.baseline_n, release_buckets=both.baseline_buckets
            )
        elif all(isnan(value) for value in both.baseline):
            both = both.changed(
                baseline=both.release, baseline_n=both.release_n, baseline_buckets=both.release_buckets
            )
        arms[series] = both
    return arms


def _by_series(samples: Sequence[Sample]) -> dict[str, dict[str, list[Sample]]]:
    found: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        found.setdefault(sample.series, {}).setdefault(sample.version, []).append(sample)
    return found


def _arm(spec: RolloutSpec, budget: Budget, column: Column, minutes: float) -> ArmForecast:
    known = [(value, n) for value, n in zip(column.values, column.counts, strict=True) if value == value]
    if not known:
        return ArmForecast()
    counts = [n for _, n in known if n == n]
    total = sum(counts)
    if spec.metric(budget.metric).kind is MetricKind.COUNT or budget.comparison is Comparison.INCREASE:
        value = sum(value for value, _ in known)
    elif column.histogram:
        value = quantile_in(column.histogram, quantile_of(budget.metric) or DEFAULT_QUANTILE)
    elif len(counts) == len(known) and total > 0:
        value = sum(value * n for value, n in known) / total
    else:
        value = sum(value for value, _ in known) / len(known)
    return ArmForecast(
        value=value if -FINITE <= value <= FINITE else None,
        per_minute=total / minutes if counts else None,
        known=len(known),
    )


def _per_arm(spec: RolloutSpec, release: ArmForecast, baseline: ArmForecast) -> float | None:
    """Return the events per minute of the smaller version once the release has its share of all."""
    counts = [arm.per_minute for arm in (release, baseline) if arm.per_minute is not None]
    if not counts:
        return None
    share = share_of_release(spec)
    if share is None:
        return min(counts) if len(counts) == 2 else sum(counts) / 2
    return sum(counts) * min(share, 1.0 - share)


def _forecasts(found: BudgetSamples, arm: ArmForecast, per_arm: float | None) -> tuple[Forecast, ...]:
    """Return the forecasts, with ``arm`` for how the baseline is."""
    looks, every = most_looks(found.spec, found.pace), write_duration(found.pace.every)
    if not looks:
        words = f"never: no look of {every} lies in the window"
        return tuple(Forecast(harm=harm, after=None, words=words) for harm in HARMS)
    if not found.budget.max_duration:
        step = found.pace.every + max(found.pace.shift, timedelta(0))
        return tuple(Forecast(harm=harm, after=step, words="at the first bad look") for harm in HARMS)
    if looks == 1:
        words = f"never: one look of {every} at most lies in the window"
        return tuple(Forecast(harm=harm, after=None, words=words) for harm in HARMS)
    if not found.judges.leave_time_for(found.budget.max_duration):
        return tuple(Forecast(harm=harm, after=None, words=JUDGES_CHANGE) for harm in HARMS)
    why_not = _why_not(found, per_arm)
    if why_not is not None or per_arm is None:
        return tuple(Forecast(harm=harm, after=None, words=f"not forecast: {why_not}") for harm in HARMS)
    return tuple(_forecast(found, harm, arm.value or 0.0, per_arm) for harm in HARMS)


def _why_not(found: BudgetSamples, per_arm: float | None) -> str | None:
    if found.snapshot.method is Method.SIGN:
        return "only values are compared"
    if found.snapshot.method is Method.THRESHOLD:
        return "every look is decided by its value alone"
    if plan_of(found.spec, found.budget).counted is Counted.ARRIVALS:
        return "rare events come when they come"
    return None if per_arm else "no traffic to go by"


def _forecast(found: BudgetSamples, harm: float, value: float, per_arm: float) -> Forecast:
    spec, budget = found.spec, found.budget
    if plan_of(spec, budget).counted is Counted.EXCEEDANCES:
        after = expected_exceedance_detection(
            spec, budget, per_minute=per_arm, harm=harm, histogram=found.tested.histogram
        )
    else:
        rate = min(max(1.0 - value if budget.worse is Worse.LOWER else value, 0.0), 1.0)
        after = expected_detection(spec, budget, per_minute=per_arm, harm=harm, rate=rate)
    if after is not None:
        if not found.judges.leave_time_for(after):
            return Forecast(harm=harm, after=None, words=JUDGES_CHANGE)
        after += max(found.pace.shift, timedelta(0))
    return Forecast(harm=harm, after=after, words="" if after else "hardly within the window")
