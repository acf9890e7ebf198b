"""Both arms of one series as arrays: many looks are compared at once, with the same results as one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rollback_budget.engine.evaluation import BAD, GOOD, UNKNOWN, Status
from rollback_budget.engine.histogram import FINITE
from rollback_budget.engine.threshold_tolerance import OPERAND_TOLERANCE, Threshold
from rollback_budget.model.budget import Comparison

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Values = NDArray[np.float64]


class ArmColumns(NamedTuple):
    """What :class:`~rollback_budget.engine.frame.Arms` holds as lists, as arrays."""

    release: _Values
    release_n: _Values
    baseline: _Values
    baseline_n: _Values

    def part(self, first: int, stop: int) -> ArmColumns:
        """Return the looks ``first`` to ``stop - 1``."""
        return ArmColumns(*(column[first:stop] for column in self))

    def compared(
        self, comparison: Comparison, threshold: Threshold, fewest: int
    ) -> tuple[list[float], list[Status]]:
        """Return the delta and the status of every look, of the formulas in ``delta.py``.

        :param fewest: how many events a look needs, of each version that is compared.
        """
        import numpy as np

        formula = _FORMULAS[comparison]
        # What cannot be computed is NaN or infinite, and unknown, as it is one by one.
        with np.errstate(all="ignore"):
            delta = formula.delta(self.release, self.baseline)
            known = np.abs(delta) <= FINITE
            known &= ~(self.release_n < fewest)
            if comparison.needs_baseline:
                known &= ~(self.baseline_n < fewest)
            signed = threshold.sign * delta
            bad = known & (signed > threshold.signed)
            near = OPERAND_TOLERANCE * formula.scale(self.release, self.baseline)
            bad &= signed - threshold.signed > threshold.tolerance + near
        delta[~known] = np.nan
        statuses = np.array([UNKNOWN, GOOD, BAD], object)[known.astype(np.intp) + bad]
        return delta.tolist(), statuses.tolist()


class _Formula(NamedTuple):
    delta: Callable[[_Values, _Values], _Values]
    scale: Callable[[_Values, _Values], _Values]


_RELEASE_VALUE = _Formula(lambda r, _: r.copy(), lambda r, _: abs(r))

#: The formulas of ``delta.DELTA_FORMULAS``, operation by operation: so are the last bits the same.
_FORMULAS = {
    Comparison.DELTA_PCT: _Formula(
        lambda r, b: 100.0 * (r - b) / abs(b), lambda r, b: 100.0 * (abs(r / b) + 1.0)
    ),
    Comparison.DELTA_PP: _Formula(lambda r, b: 100.0 * (r - b), lambda r, b: 100.0 * (abs(r) + abs(b))),
    Comparison.DELTA: _Formula(lambda r, b: r - b, lambda r, b: abs(r) + abs(b)),
    Comparison.ABOVE: _RELEASE_VALUE,
    Comparison.BELOW: _RELEASE_VALUE,
}
