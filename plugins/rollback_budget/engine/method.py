"""Methods: how looks add up to a breach. A new one is a module and a line in the registry below."""

from __future__ import annotations

from typing import Protocol, Self

from rollback_budget.engine.comparison import Mean, Observation, View
from rollback_budget.engine.threshold import Threshold
from rollback_budget.errors import RollbackBudgetError
from rollback_budget.spec.model import Budget, Comparison, Method, RolloutSpec

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
        """The latest bad looks of the burn."""
        ...

    @property
    def started(self) -> int | None:
        """Time of the first bad look of the burn."""
        ...

    @property
    def mean(self) -> Mean:
        """Both arms over the bad looks of the burn."""
        ...

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``, which are at ``times``.

        :return: offset of the look that breaches, with the state as of that look; None when all were folded.
        """
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


def choose(budget: Budget, spec: RolloutSpec) -> tuple[Deciding, Method, str]:
    """Return a new method for ``budget``, its name, and why it is this one.

    :raises RollbackBudgetError: the budget asks for a method that is not there.
    """
    name = Method.THRESHOLD if budget.method is Method.AUTO else budget.method
    if name not in _METHODS:
        known = ", ".join(method.value for method in (Method.AUTO, *_METHODS))
        raise RollbackBudgetError(
            f"budget {budget.id}: method {name.value} is not available; use one of: {known}"
        )
    basis = COUNTED if budget.comparison is Comparison.INCREASE else NO_GUARANTEE
    reason = (
        "auto is threshold for now" if budget.method is Method.AUTO else f"the budget asks for {name.value}"
    )
    return _METHODS[name](budget, spec), name, f"{reason}: {basis}"


_METHODS = {Method.THRESHOLD: Threshold}
