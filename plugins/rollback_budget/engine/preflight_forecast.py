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
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.histogram import DEFAULT_QUANTILE, FINITE, quantile_in, quantile_of
from rollback_budget.engine.sample import Sample
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.method_plan import Counted, plan_of
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.spec import RolloutSpec

#: Harm that is forecast, in multiples of the threshold.
HARMS = (2.0, 4.0)


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

    :param per_arm: events per minute and version that the forecasts assume once the release is shipped.
    :param errors: why the budget cannot be watched as it is; a rollout with one is not shipped.
    """

    budget: str
    series: str
    unit: str
    kind: MetricKind
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
    spec: RolloutSpec, samples: Sequence[Sample], *, start: datetime, end: datetime
) -> PreflightForecast:
    """Return what ``samples`` of ``start < time <= end`` promise; the release may have no traffic yet.

    :raises SeriesError: samples that cannot be trusted.
    """
    frame = frame_of(spec, samples, start=start, end=end)
    decided = _decided(spec, frame, start, end)
    minutes = max((end - start) / timedelta(minutes=1), 1.0)
    by_series = _by_series(samples)
    starts = [Column(arms.baseline, (), ()).known[:1] for arms in frame.arms.values()]
    first_known = min((known[0] for known in starts if known), default=None)
    budgets = []
    for budget, snapshot in zip(spec.budgets, decided, strict=True):
        arms = frame.arms[budget.series]
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
            frame.invalid.get(budget.series, {}),
            next(iter(frame.other_bounds.get(budget.series, {}).values()), None),
        )
        budgets.append(_budget(found, minutes))
    return PreflightForecast(
        release=spec.release,
        baseline=spec.baseline,
        start=start,
        end=end,
        looks=len(frame.times),
        budgets=tuple(budgets),
    )


def _budget(found: BudgetSamples, minutes: float) -> BudgetForecast:
    spec, budget = found.spec, found.budget
    release, baseline = (_arm(spec, budget, column, minutes) for column in (found.release, found.baseline))
    per_arm = _per_arm(spec, release, baseline)
    metric = spec.metric(budget.metric)
    return BudgetForecast(
        budget=budget.id,
        series=budget.series,
        unit=metric.unit,
        kind=metric.kind,
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
    arms = {}
    for series, both in frame.arms.items():
        if all(isnan(value) for value in both.release):
            both = both._replace(
                release=both.baseline, release_n=both.baseline_n, release_buckets=both.baseline_buckets
            )
        elif all(isnan(value) for value in both.baseline):
            both = both._replace(
                baseline=both.release, baseline_n=both.release_n, baseline_buckets=both.release_buckets
            )
        arms[series] = both
    at_once = spec.model_copy(update={"watch": spec.watch.model_copy(update={"grace": timedelta(0)})})
    fold = Fold(at_once, Window(start, end), watch_blind=False, keep_going=True)
    fold.fold(replace(frame, arms=arms))
    return fold.evaluation().budgets


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
    if not found.budget.max_duration:
        step = found.spec.watch.step
        return tuple(Forecast(harm=harm, after=step, words="at the first bad look") for harm in HARMS)
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
    return Forecast(harm=harm, after=after, words="" if after else "hardly within the window")
