"""Which method decides a budget, as far as the budget file alone can say it, and with which settings."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from math import exp, log, log1p
from typing import NamedTuple

from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Worse
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec

#: What the sign test bets: a part of what it has, on "worse".
SIGN_BETS = (0.2, 0.5, 0.9)
#: In how many blocks a duration is cut by default.
_PARTS, _SIGN_PARTS = 4, 8


class Counted(Enum):
    """What is counted, so that evidence can be weighed exactly."""

    EVENTS = "events among requests"
    EXCEEDANCES = "requests beyond a bound"
    ARRIVALS = "events by exposure"


class MethodPlan(NamedTuple):
    """How a budget is decided.

    :param method: what decides where the samples carry counts; never ``auto``.
    :param without_counts: what decides where they do not.
    :param reason: why, for people.
    :param counted: what ``sequential`` counts; None for the others.
    """

    method: Method
    without_counts: Method
    reason: str
    counted: Counted | None = None

    @property
    def is_tested(self) -> bool:
        """Whether the budget takes a share of the rollout's false-rollback rate."""
        return self.method is not Method.THRESHOLD


class Blocks(NamedTuple):
    """How time is cut into blocks of evidence.

    :param in_duration: how many it takes to cover the budget's duration.
    :param in_window: how many a whole watch has.
    """

    length: timedelta
    in_duration: int
    in_window: int


def blocks_of(spec: RolloutSpec, budget: Budget, method: Method = Method.SEQUENTIAL) -> Blocks:
    """Return the blocks of ``budget``: by default a quarter of its duration, at least one step.

    For ``sign`` an eighth: a block is worth less than a coin toss there, and it takes ten in a row.
    """
    block = spec.analysis.block
    parts = _SIGN_PARTS if method is Method.SIGN else _PARTS
    length = budget.max_duration / parts if block == "auto" else block
    pace = pace_of(spec, budget.metric)
    length = max(length, pace.every)
    watched = max(spec.window - spec.watch.grace - pace.leaves_out, length)
    return Blocks(length, max(-(-budget.max_duration // length), 1), -(-watched // length))


def plan_of(spec: RolloutSpec, budget: Budget) -> MethodPlan:
    """Return how ``budget`` is decided. A method that it asks for and cannot have is planned all the same."""
    plan = _wanted(spec, budget)
    if (
        budget.method is not Method.AUTO
        or plan.without_counts is not Method.SIGN
        or _can_reject(spec, budget)
    ):
        return plan
    if plan.method is Method.SIGN:
        return _threshold("auto: the window is too short for the sign test")
    return plan._replace(without_counts=Method.THRESHOLD)


def tested_budgets(spec: RolloutSpec) -> int:
    """Return among how many budgets the rollout's false-rollback rate is divided."""
    return sum(plan_of(spec, budget).is_tested for budget in spec.budgets)


def alpha_of(spec: RolloutSpec) -> float:
    """Return one budget's share of the rollout's false-rollback rate."""
    return spec.analysis.alpha / max(tested_budgets(spec), 1)


def method_problem(spec: RolloutSpec, budget: Budget) -> str | None:
    """Say why ``budget`` cannot be decided the way its file asks for."""
    if budget.method in (Method.SEQUENTIAL, Method.SIGN):
        why = _untestable(spec, budget)
        if why is None and budget.method is Method.SEQUENTIAL and _counted(spec, budget) is None:
            why = (
                "is for proportions, quantiles and `_increase`"
                if budget.threshold
                else "needs a threshold other than 0"
            )
        if why is None and budget.method is Method.SIGN and budget.comparison is Comparison.INCREASE:
            why = "compares values, and `_increase` counts events"
        if why is not None:
            return f"{budget.id}: `method: {budget.method}` {why}; write `method: auto`"
    if plan_of(spec, budget).is_tested and spec.analysis.design_effect == "auto":
        return (
            f"{budget.id}: `analysis.design_effect: auto` has no period without change to learn from here; "
            "run `rollback-budget design-effect BUDGET --series FILE` on one and write the number"
        )
    return None


def _wanted(spec: RolloutSpec, budget: Budget) -> MethodPlan:
    asked = f"the budget asks for {budget.method}"
    if budget.method is Method.THRESHOLD:
        return _threshold(asked)
    counted = _counted(spec, budget)
    if budget.method is Method.SIGN:
        return MethodPlan(Method.SIGN, Method.SIGN, asked)
    if budget.method is Method.SEQUENTIAL:
        other = Method.THRESHOLD if counted is Counted.ARRIVALS else Method.SIGN
        return MethodPlan(Method.SEQUENTIAL, other, asked, counted or Counted.EVENTS)
    why_not = _untestable(spec, budget)
    if why_not is None and budget.accounting is Accounting.CUMULATIVE:
        why_not = "adds up no minutes, as `accounting: cumulative` asks"
    if why_not is not None:
        return _threshold(f"auto: evidence {why_not}")
    if counted is Counted.ARRIVALS:
        return MethodPlan(Method.SEQUENTIAL, Method.THRESHOLD, f"auto: {counted.value} are known", counted)
    if counted is not None:
        return MethodPlan(Method.SEQUENTIAL, Method.SIGN, f"auto: {counted.value} are counted", counted)
    if budget.threshold == 0.0:
        return MethodPlan(
            Method.SIGN, Method.SIGN, "auto: a threshold of 0 leaves nothing to bet on but the sign"
        )
    kind = spec.metrics[budget.metric].kind if budget.metric in spec.metrics else None
    described = f"a {kind}" if kind else "not described as a proportion"
    return MethodPlan(
        Method.SIGN, Method.SIGN, f"auto: {budget.metric} is {described}, so only values are known"
    )


def _threshold(reason: str) -> MethodPlan:
    return MethodPlan(Method.THRESHOLD, Method.THRESHOLD, reason)


def _untestable(spec: RolloutSpec, budget: Budget) -> str | None:
    """Say what about ``budget`` rules every evidence method out."""
    if not budget.max_duration:
        return "needs a duration, and this budget decides at the first bad look"
    if not budget.comparison.needs_baseline:
        return "needs a baseline, and this budget has none"
    if spec.analysis.baseline == "static":
        return "needs a concurrent baseline, and `analysis.baseline` is static"
    return None


def _counted(spec: RolloutSpec, budget: Budget) -> Counted | None:
    if budget.comparison is Comparison.INCREASE:
        return Counted.ARRIVALS if budget.worse is Worse.HIGHER else None
    if budget.threshold == 0.0:
        return None
    if budget.comparison is Comparison.DELTA_PP:
        return Counted.EVENTS
    if budget.comparison is not Comparison.DELTA_PCT:
        return None
    described = spec.metrics.get(budget.metric)
    if described is None:
        return Counted.EVENTS if budget.method is Method.SEQUENTIAL else None
    return {MetricKind.PROPORTION: Counted.EVENTS, MetricKind.QUANTILE: _exceedances(budget)}.get(
        described.kind
    )


def _exceedances(budget: Budget) -> Counted | None:
    return Counted.EXCEEDANCES if budget.worse is Worse.HIGHER else None


def _can_reject(spec: RolloutSpec, budget: Budget) -> bool:
    """Whether the sign test, were every block of the window worse, would come to its limit."""
    tested = max(sum(_wanted(spec, other).is_tested for other in spec.budgets), 1)
    limit = log(2.0 * tested / spec.analysis.alpha)
    blocks = blocks_of(spec, budget, Method.SIGN)
    cap = limit / blocks.in_duration
    # One bet's share of the mean is enough to know it, and keeps the exponential small.
    over = [blocks.in_window * min(log1p(bet), cap) - limit for bet in SIGN_BETS]
    return sum(exp(min(value, 9.0)) for value in over) >= len(SIGN_BETS)
