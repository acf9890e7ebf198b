"""Methods: how looks add up to a breach. A new one is a class and a line in one of the registries below."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Protocol, Self

from rollback_budget.engine.bets import Arrivals, Betting, Proportions, Signs
from rollback_budget.engine.comparison import UNKNOWN, Mean, Observation, View
from rollback_budget.engine.exceedances import Exceedances, can_resolve
from rollback_budget.engine.threshold import Threshold
from rollback_budget.engine.weighed import Span, Weighed
from rollback_budget.errors import RollbackBudgetError
from rollback_budget.spec.evidence import Blocks, Counted, Plan, alpha_of, blocks_of, method_problem, plan_of
from rollback_budget.spec.model import Budget, Comparison, Method, RolloutSpec

__all__ = ["Deciding", "Decision", "Span", "choose"]

NO_GUARANTEE = "no error-rate guarantee"
COUNTED = "events are counted, not estimated"


class Deciding(Protocol):
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
        """Time of the first bad look of the burn, or since when the evidence has climbed."""
        ...

    @property
    def over(self) -> int | None:
        """The time over which ``mean`` is taken, in microseconds; None for the burn."""
        ...

    @property
    def mean(self) -> Mean:
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


class Decision:
    """The method of one budget. Whether counts are known is seen at the first known look, once and for all.

    Nothing before that look can have counted, so that a watch that starts again decides the same.
    """

    def __init__(self, budget: Budget, spec: RolloutSpec, span: Span) -> None:
        self._budget = budget
        self._spec = spec
        plan = plan_of(spec, budget)
        #: Until it is known whether there are counts.
        self._open: tuple[Plan, Span] | None = None if plan.method is plan.without_counts else (plan, span)
        self._take(plan.method, plan.reason, plan, span)

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :meth:`Deciding.fold`."""
        if self._open is not None:
            self._settle(view, *self._open)
        return self.deciding.fold(view, times, stop_at_breach=stop_at_breach)

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = copy(self)
        twin.deciding = self.deciding.copy()
        return twin

    def _settle(self, view: View, plan: Plan, span: Span) -> None:
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
                lacking = self._lacking(view, look, plan)
                if lacking is not None:
                    self._take(plan.without_counts, f"{plan.reason}, but {lacking}", plan, span)
                return

    def _lacking(self, view: View, look: int, plan: Plan) -> str | None:
        """Say what the first known look does not have that the plan counts on."""
        arms = view.arms
        if plan.counted is not Counted.EXCEEDANCES:
            counts = (arms.release_n[look], arms.baseline_n[look])
            return "the samples carry none" if any(n != n for n in counts) else None
        baseline = arms.baseline_buckets[look] if arms.baseline_buckets else None
        release = arms.release_buckets[look] if arms.release_buckets else None
        if not baseline or not release:
            return "the samples carry no histogram"
        return None if can_resolve(baseline, self._budget) else "the histogram is coarser than the threshold"

    def _take(self, name: Method, reason: str, plan: Plan, span: Span) -> None:
        budget, spec = self._budget, self._spec
        self.name = name
        self.deciding: Deciding
        if name is Method.THRESHOLD:
            counted = budget.comparison is Comparison.INCREASE and not budget.max_duration
            self.deciding = Threshold(budget, spec)
            self.reason = f"{reason}: {COUNTED if counted else NO_GUARANTEE}"
            return
        blocks, alpha = blocks_of(spec, budget, name), alpha_of(spec)
        betting = _betting(name, plan)(budget, spec, blocks)
        self.deciding = Weighed(budget, spec, betting, blocks, alpha, span)
        self.reason = f"{reason}: anytime-valid at alpha {alpha:.3g}"


def choose(budget: Budget, spec: RolloutSpec, span: Span) -> Decision:
    """Return how ``budget`` is decided, fresh.

    :raises RollbackBudgetError: the budget asks for a method that cannot decide it.
    """
    problem = method_problem(spec, budget)
    if problem is not None:
        raise RollbackBudgetError(f"budget {problem}")
    return Decision(budget, spec, span)


def _betting(name: Method, plan: Plan) -> Callable[[Budget, RolloutSpec, Blocks], Betting]:
    return Signs if name is Method.SIGN or plan.counted is None else _COUNTING[plan.counted]


_COUNTING: dict[Counted, Callable[[Budget, RolloutSpec, Blocks], Betting]] = {
    Counted.EVENTS: Proportions,
    Counted.ARRIVALS: Arrivals,
    Counted.EXCEEDANCES: Exceedances,
}
