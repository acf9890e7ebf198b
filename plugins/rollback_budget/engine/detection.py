"""How long a sequential test needs to see a given harm at a given traffic: a forecast, not a guarantee."""

from __future__ import annotations

from datetime import timedelta
from math import erf, exp, inf, log, pi, sqrt

from rollback_budget.engine.eprocess import log_mean_exp, softplus
from rollback_budget.engine.exceedances import counted_beyond, share_beyond
from rollback_budget.engine.histogram import DEFAULT_QUANTILE, Histogram, quantile_of
from rollback_budget.engine.null_boundary import (
    MAX_RATE,
    MIN_RATE,
    MULTIPLES,
    NullBoundary,
    null_boundary_of,
    project_on_boundary,
    threshold_as_rate,
)
from rollback_budget.model.budget import Budget, Comparison, Method, Worse
from rollback_budget.model.duration import say_duration
from rollback_budget.model.method_plan import Counted, alpha_of, blocks_of, plan_of
from rollback_budget.model.spec import RolloutSpec

#: Harm that ``explain`` and ``validate`` speak of, in multiples of the threshold.
TYPICAL_HARM = (2.0, 5.0)
#: Share of bad events that a forecast assumes of the baseline where no other is given.
DEFAULT_BASELINE_RATE = 0.1

#: A line that decides this fast needs no faster one beside it.
FAST_DURATION = timedelta(minutes=3)
#: A budget is slow when it needs this many of its durations.
SLOW_FACTOR = 3


def expected_detection(
    spec: RolloutSpec, budget: Budget, *, per_minute: float, harm: float, rate: float = DEFAULT_BASELINE_RATE
) -> timedelta | None:
    """Return the usual time from the onset of harm at the window's start to the breach.

    The log evidence of a block is nearly normal, and what is cut off above its cap is known in closed form;
    the means are added up until a limit is reached. Simulated medians are met within 20 % or one block.

    :param per_minute: requests per minute and arm.
    :param harm: multiple of the budget's threshold by which the release is worse.
    :param rate: the baseline's share of bad events.
    :return: None when ``sequential`` does not decide this budget, or would not see it within the window.
    """
    plan = plan_of(spec, budget)
    if plan.method is not Method.SEQUENTIAL or plan.counted is not Counted.EVENTS:
        return None
    step = threshold_as_rate(budget, rate)
    return _time_to_detection(
        spec,
        budget,
        per_minute,
        null_boundary_of(budget, spec.analysis.null_margin),
        step,
        (rate, rate + harm * step),
    )


def expected_exceedance_detection(
    spec: RolloutSpec, budget: Budget, *, per_minute: float, harm: float, histogram: Histogram
) -> timedelta | None:
    """Return the usual time from the onset of harm at the window's start to the breach of a quantile budget.

    Takes every request of the release to be slower by the same factor.

    :param per_minute: requests per minute and arm.
    :param harm: multiple of the budget's threshold by which the release is worse.
    :param histogram: of the baseline, cumulative.
    :return: None when it would not be seen within the window, or the histogram has no bound to count beyond.
    """
    ratio = 1.0 + spec.analysis.null_margin * abs(budget.threshold) / 100.0
    bounds = counted_beyond(histogram, quantile_of(budget.metric) or DEFAULT_QUANTILE, ratio)
    if bounds is None:
        return None
    beyond_c, beyond_t = bounds
    rate = share_beyond(histogram, beyond_c)
    truth = share_beyond(histogram, beyond_t / (1.0 + harm * abs(budget.threshold) / 100.0))
    return _time_to_detection(spec, budget, per_minute, NullBoundary(0.0, 1.0), rate, (rate, truth))


def _time_to_detection(
    spec: RolloutSpec,
    budget: Budget,
    per_minute: float,
    boundary: NullBoundary,
    step: float,
    rates: tuple[float, float],
) -> timedelta | None:
    """Return when the means of the log evidence, added up, reach a limit.

    :param rates: true shares of bad events, of the baseline and of the release.
    """
    blocks, alpha = blocks_of(spec, budget), alpha_of(spec)
    effect = spec.analysis.design_effect
    requests = per_minute * (blocks.length / timedelta(minutes=1))
    start_limit, any_limit = log(2.0 / alpha), log(2.0 * blocks.in_window / alpha)
    start_cap, any_cap = start_limit / blocks.in_duration, any_limit / (blocks.in_duration + 1)
    scale = 1.0 if effect == "auto" else effect
    adds = [
        (mean / scale, deviation / scale)
        for mean, deviation in _evidence_moments(boundary, step, rates, requests)
    ]
    to_start = [_capped_mean(mean, deviation, start_cap) for mean, deviation in adds]
    to_any = [_capped_mean(mean, deviation, any_cap) for mean, deviation in adds]
    start, anywhere = [0.0] * len(adds), [-inf] * len(adds)
    for block in range(1, blocks.in_window + 1):
        start = [value + more for value, more in zip(start, to_start, strict=True)]
        anywhere = [softplus(value) + more for value, more in zip(anywhere, to_any, strict=True)]
        enough = log_mean_exp(start) >= start_limit - 1e-9 or log_mean_exp(anywhere) >= any_limit - 1e-9
        if enough and block >= blocks.in_duration:
            return block * blocks.length
    return None


def describe_detection(
    spec: RolloutSpec, budget: Budget, per_minute: float, rate: float = DEFAULT_BASELINE_RATE
) -> str | None:
    """Return how long typical harm takes to be found; None where there is nothing to forecast."""
    found = []
    for harm in TYPICAL_HARM:
        if rate + harm * threshold_as_rate(budget, rate) >= 1.0:
            continue
        after = expected_detection(spec, budget, per_minute=per_minute, harm=harm, rate=rate)
        when = f"in about {say_duration(after)}" if after else f"hardly within {say_duration(spec.window)}"
        found.append(f"a {_describe_harm(budget, harm)} is found {when}")
    plan = plan_of(spec, budget)
    if plan.counted is not Counted.EVENTS or not found:
        return None
    at = f"at {per_minute:g} requests/min/arm and {100 * rate:g} % bad ones in the baseline"
    return f"{budget.id}: {at}, {', '.join(found)}"


def slow_budgets(spec: RolloutSpec, per_minute: float, rate: float = DEFAULT_BASELINE_RATE) -> list[str]:
    """Recommend a fast line for each area whose main line needs long to see twice its threshold."""
    advice = []
    for budget in spec.budgets:
        plan = plan_of(spec, budget)
        if plan.counted is not Counted.EVENTS or plan.method is not Method.SEQUENTIAL:
            continue
        after = expected_detection(spec, budget, per_minute=per_minute, harm=TYPICAL_HARM[0], rate=rate)
        others = [b for b in spec.budgets if b.area == budget.area and b.metric == budget.metric]
        is_fastest = budget.max_duration == min(other.max_duration for other in others)
        alone = is_fastest and budget.max_duration > FAST_DURATION
        if alone and (after is None or after > SLOW_FACTOR * budget.max_duration):
            needs = f"about {say_duration(after)}" if after else f"more than {say_duration(spec.window)}"
            harm = _describe_harm(budget, TYPICAL_HARM[0])
            advice.append(
                f"{budget.id}: at {per_minute:g} requests/min/arm a {harm} "
                f"takes {needs} to be found; add a fast line to {budget.area}, such as "
                f"`{budget.key}: {10 * budget.threshold:+g}` for {say_duration(FAST_DURATION)}"
            )
    return advice


def _describe_harm(budget: Budget, harm: float) -> str:
    unit = "-point" if budget.comparison is Comparison.DELTA_PP else " %"
    return f"{harm * abs(budget.threshold):g}{unit} {'drop' if budget.worse is Worse.LOWER else 'rise'}"


def _evidence_moments(
    boundary: NullBoundary, step: float, rates: tuple[float, float], requests: float
) -> list[tuple[float, float]]:
    """Return mean and standard deviation of a block's log evidence for each alternative."""
    rate = min(max(rates[0], MIN_RATE), MAX_RATE)
    truth = min(max(rates[1], MIN_RATE), MAX_RATE)
    edge = boundary.at(rate)
    found = []
    for multiple in MULTIPLES:
        release = min(edge + step * multiple, MAX_RATE)
        if release <= edge:
            found.append((0.0, 0.0))
            continue
        null_c = project_on_boundary(rate, release, boundary, 1, 1)
        null_t = boundary.at(null_c)
        mean = variance = 0.0
        for p, claimed, null in ((rate, rate, null_c), (truth, release, null_t)):
            bad, good = log(claimed / null), log((1.0 - claimed) / (1.0 - null))
            mean += requests * (p * bad + (1.0 - p) * good)
            variance += requests * p * (1.0 - p) * (bad - good) ** 2
        found.append((mean, sqrt(variance)))
    return found


def _capped_mean(mean: float, deviation: float, cap: float) -> float:
    """Return the mean of a normal variable that is cut off above ``cap``."""
    if deviation == 0.0:
        return min(mean, cap)
    z = (mean - cap) / deviation
    above = 0.5 * (1.0 + erf(z / sqrt(2.0)))
    return mean - (mean - cap) * above - deviation * exp(-0.5 * z * z) / sqrt(2.0 * pi)
