"""Methods: how looks add up to a breach. A new one is a class and a line in one of the registries below."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Protocol, Self

from rollback_budget.engine.burn import Burn
from rollback_budget.engine.comparison import ArmMeans, Observation, View
from rollback_budget.engine.evaluation import UNKNOWN
from rollback_budget.engine.evidence import BlockStatistic, CountStatistic, ProportionStatistic, SignStatistic
from rollback_budget.engine.exceedances import ExceedanceStatistic
from rollback_budget.engine.resolution import can_resolve
from rollback_budget.engine.sequential_method import CountingPeriod, SequentialMethod
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.model.budget import Budget, Comparison, Method
from rollback_budget.model.method_plan import (
    Blocks,
    Counted,
    MethodPlan,
    alpha_of,
    blocks_of,
    method_problem,
    plan_of,
)
from rollback_budget.model.spec import RolloutSpec

__all__ = ["BudgetMethod", "CountingPeriod", "DecidingMethod", "select_method"]

NO_GUARANTEE = "no error-rate guarantee"
COUNTED = "events are counted, not estimated"


class DecidingMethod(Protocol):
    """Decides over one budget, chunk by chunk; its state must not grow with the length of the series."""

    @property
    def burn(self) -> int:
        """How much of the budget's duration is used up, in microseconds."""
        ...

    @property
    def p_value(self) -> float | None:
        """The always-valid p-value, None for a method without one."""
        ...

    @property
    def bad_looks(self) -> tuple[Observation, ...]:
        """The latest looks that a breach rests on: the bad ones of the burn, or those of the evidence."""
        ...

    @property
    def started(self) -> int | None:
        """Time of the first bad look of the burn, or since when the evidence has been rising."""
        ...

    @property
    def over(self) -> int | None:
        """The time over which ``mean`` is taken, in microseconds; None for the burn."""
        ...

    @property
    def mean(self) -> ArmMeans:
        """Both arms over the bad looks of the burn, or over the trailing duration."""
        ...

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``, which are at ``times``.

        :return: offset of the look that breaches, with the state as of that look; None when all were folded.
        """
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


class BudgetMethod:
    """The method of one budget. Whether counts are known is decided once, at the first known look.

    Nothing before that look can have counted, so that a watch that starts again decides the same.
    """

    def __init__(self, budget: Budget, spec: RolloutSpec, period: CountingPeriod) -> None:
        self._budget = budget
        self._spec = spec
        plan = plan_of(spec, budget)
        #: The plan, until it is known whether there are counts.
        self._open: tuple[MethodPlan, CountingPeriod] | None = (
            None if plan.method is plan.without_counts else (plan, period)
        )
        self._use(plan.method, plan.reason, plan, period)

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :meth:`DecidingMethod.fold`."""
        if self._open is not None:
            self._choose_by_counts(view, *self._open)
        return self.deciding.fold(view, times, stop_at_breach=stop_at_breach)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone.deciding = self.deciding.copy()
        return clone

    def _choose_by_counts(self, view: View, plan: MethodPlan, period: CountingPeriod) -> None:
        arms = view.arms
        for look, status in enumerate(view.statuses):
            if self._budget.comparison is Comparison.INCREASE:
                known = status is not UNKNOWN
            else:
                known = (
                    arms.release[look] == arms.release[look] and arms.baseline[look] == arms.baseline[look]
                )
            if known:
                self._open = None
                lacking = self._missing_counts(view, look, plan)
                if lacking is not None:
                    self._use(plan.without_counts, f"{plan.reason}, but {lacking}", plan, period)
                return

    def _missing_counts(self, view: View, look: int, plan: MethodPlan) -> str | None:
        """Return what the first known look lacks that the plan needs; None when it has everything."""
        arms = view.arms
        if plan.counted is not Counted.EXCEEDANCES:
            counts = (arms.release_n[look], arms.baseline_n[look])
            return "the samples carry none" if any(n != n for n in counts) else None
        baseline = arms.baseline_buckets[look] if arms.baseline_buckets else None
        release = arms.release_buckets[look] if arms.release_buckets else None
        if not baseline or not release:
            return "the samples carry no histogram"
        if not can_resolve(baseline, self._budget):
            return "the histogram is coarser than the threshold"
        if not can_resolve(baseline, self._budget, release):
            return "the versions' histograms have other bounds, and those of both are too coarse"
        return None

    def _use(self, name: Method, reason: str, plan: MethodPlan, period: CountingPeriod) -> None:
        budget, spec = self._budget, self._spec
        self.name = name
        self.deciding: DecidingMethod
        if name is Method.THRESHOLD:
            counted = budget.comparison is Comparison.INCREASE and not budget.max_duration
            self.deciding = Burn(budget, spec)
            self.reason = f"{reason}: {COUNTED if counted else NO_GUARANTEE}"
            return
        blocks, alpha = blocks_of(spec, budget, name), alpha_of(spec)
        statistic = _statistic(name, plan)(budget, spec, blocks)
        self.deciding = SequentialMethod(budget, spec, statistic, blocks, alpha, period)
        self.reason = f"{reason}: anytime-valid at alpha {alpha:.3g}"


def select_method(budget: Budget, spec: RolloutSpec, period: CountingPeriod) -> BudgetMethod:
    """Return a fresh method for ``budget``.

    :raises RollbackBudgetError: the budget asks for a method that cannot decide it.
    """
    problem = method_problem(spec, budget)
    if problem is not None:
        raise RollbackBudgetError(f"budget {problem}")
    return BudgetMethod(budget, spec, period)


def _statistic(name: Method, plan: MethodPlan) -> Callable[[Budget, RolloutSpec, Blocks], BlockStatistic]:
    return SignStatistic if name is Method.SIGN or plan.counted is None else _STATISTICS[plan.counted]


_STATISTICS: dict[Counted, Callable[[Budget, RolloutSpec, Blocks], BlockStatistic]] = {
    Counted.EVENTS: ProportionStatistic,
    Counted.ARRIVALS: CountStatistic,
    Counted.EXCEEDANCES: ExceedanceStatistic,
}
