"""Messages: a breach and a blind area as sentences for the person on call."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import floor, log10
from typing import NamedTuple

from rollback_budget.engine.evaluation import Comparand
from rollback_budget.model.budget import Budget, Comparison, Worse
from rollback_budget.model.duration import say_duration
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.text import counted, singular

#: A smaller p-value is shown as "below" this.
LEAST_P_VALUE = 0.0001


class BreachEvidence(NamedTuple):
    """The evidence of a breach: over which time, its p-value, and since when it has been rising."""

    over: timedelta
    p_value: float
    since: datetime


def breach_sentence(
    spec: RolloutSpec,
    budget: Budget,
    over_burn: Comparand,
    burn: timedelta,
    evidence: BreachEvidence | None = None,
) -> str:
    """Return what was beyond which threshold, by how much, for how long, and the evidence for it."""
    lasted = _for(burn) if evidence is None else f" over {say_duration(evidence.over)}"
    what = f"{describe_comparison(spec, budget, over_burn)}{lasted}, {_describe_budget(spec, budget)}"
    sentence = f"{budget.area}: {what}{_for(budget.max_duration)}"
    if evidence is None:
        return sentence
    p_value = f"p = {evidence.p_value:.1g}" if evidence.p_value >= LEAST_P_VALUE else f"p < {LEAST_P_VALUE:g}"
    return f"{sentence}; {p_value} (anytime-valid), evidence since {evidence.since:%H:%M} UTC"


def describe_comparison(spec: RolloutSpec, budget: Budget, both: Comparand) -> str:
    """Return how the release compared: ``p95 was 31 % above model-v41 (2.10 s against 1.60 s)``."""
    metric = spec.metric(budget.metric)
    of_slice = "" if budget.slice is None else f" of {budget.slice}"
    name = f"{budget.metric}{of_slice}"
    arms = _arms(budget, metric, both)
    if budget.comparison is Comparison.INCREASE:
        more = _more(both.delta)
        noun = singular(budget.metric) if more.startswith("1 ") else budget.metric
        return f"{more} {noun}{of_slice} than {spec.baseline}{arms}"
    if not budget.comparison.needs_baseline:
        return f"{name} was {_say(both.release_value, metric, at_least=both.release_is_least)}{arms}"
    if not both.delta:
        return f"{name} was the same as {spec.baseline}{arms}"
    side = "above" if both.delta > 0 else "below"
    delta = _beyond(abs(both.delta), abs(budget.threshold))
    if both.release_is_least or both.baseline_is_least:
        delta = f"at least {delta}"
    return f"{name} was {delta}{_delta_unit(budget, metric)} {side} {spec.baseline}{arms}"


def _describe_budget(spec: RolloutSpec, budget: Budget) -> str:
    metric = spec.metric(budget.metric)
    if budget.comparison is Comparison.INCREASE:
        return f"budget: {_more(budget.threshold, worse=budget.worse)}"
    if not budget.comparison.needs_baseline:
        bound = "at most" if budget.worse is Worse.HIGHER else "at least"
        return f"budget {bound} {say_value(budget.threshold, metric)}"
    return f"budget {budget.threshold:+.6g}{_delta_unit(budget, metric)}"


def blind_sentence(area: str, since: datetime, until: datetime) -> str:
    """Return since when no budget of an area had a known look."""
    moment = f"{since:%Y-%m-%d %H:%M:%S} UTC"
    return f"{area}: no budget could be read for {say_duration(until - since)}, since {moment}"


def not_judged_sentence(budget: Budget, since: datetime, until: datetime, invalid: str | None) -> str:
    """Return since when one budget had no known look.

    :param invalid: what came instead of a value; None when nothing did.
    """
    why = "" if invalid is None else f": {invalid}"
    moment = f"{since:%Y-%m-%d %H:%M:%S} UTC"
    lasted = say_duration(until - since)
    return f"{budget.id} was not judged, it could not be read for {lasted}, since {moment}{why}"


def no_look_sentence(budget: Budget) -> str:
    """Return that one budget has had no look in the whole window."""
    return f"{budget.id} was not judged, no look at {budget.metric} lies in the window"


def _arms(budget: Budget, metric: Metric, both: Comparand) -> str:
    """Return the part in brackets: both values, and how many events are behind them."""
    if budget.comparison is Comparison.INCREASE:
        metric = metric.model_copy(update={"kind": MetricKind.COUNT})
    parts = []
    counts = [both.release_n]
    if budget.comparison.needs_baseline:
        of_release = _say(both.release_value, metric, at_least=both.release_is_least)
        of_baseline = _say(both.baseline_value, metric, at_least=both.baseline_is_least)
        parts.append(f"{of_release} against {of_baseline}")
        counts.append(both.baseline_n)
    if all(count is not None for count in counts):
        parts.append("n = " + " and ".join(_grouped(count or 0.0, 0) for count in counts))
    return f" ({', '.join(parts)})" if parts else ""


def _say(value: float | None, metric: Metric, *, at_least: bool) -> str:
    said = say_value(value, metric)
    return f"more than {said}" if at_least else said


def say_value(value: float | None, metric: Metric) -> str:
    """Return a value in its metric's unit, with three significant digits."""
    if value is None:
        return "unknown"
    if metric.kind is MetricKind.PROPORTION:
        return f"{_digits(100.0 * value)} %"
    text = _grouped(value, 0) if value.is_integer() and metric.kind is MetricKind.COUNT else _digits(value)
    return counted(text, metric.unit) if metric.unit else text


def _digits(value: float) -> str:
    """Return three significant digits, and never fewer than the integer part has."""
    return _grouped(value, _decimals(value, 3))


def _beyond(delta: float, threshold: float) -> str:
    """Return ``delta`` in two digits, or as many more as it takes to be seen to lie beyond the threshold."""
    decimals = _decimals(delta, 2)
    while decimals < 6 and round(delta, decimals) <= threshold < delta:
        decimals += 1
    return _grouped(delta, decimals)


def _decimals(value: float, digits: int) -> int:
    return digits - 1 if value == 0.0 else min(max(digits - 1 - floor(log10(abs(value))), 0), 12)


def _grouped(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace(",", " ")


def _more(delta: float | None, *, worse: Worse = Worse.HIGHER) -> str:
    delta = delta or 0.0
    fewer = delta < 0 or (delta == 0 and worse is Worse.LOWER)
    return f"{abs(delta):.4g} {'fewer' if fewer else 'more'}"


def _delta_unit(budget: Budget, metric: Metric) -> str:
    if budget.comparison is Comparison.DELTA_PCT:
        return " %"
    if budget.comparison is Comparison.DELTA_PP:
        return " pp"
    return f" {metric.unit}" if metric.unit else ""


def _for(duration: timedelta) -> str:
    return f" for {say_duration(duration)}" if duration else ""
