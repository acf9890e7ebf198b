"""The threshold of a budget, and the relative tolerance that keeps float noise from deciding a look."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.evaluation import BAD, GOOD, UNKNOWN, Status
from rollback_budget.engine.histogram import FINITE
from rollback_budget.model.budget import Budget, Worse

#: A delta this close to the threshold is at the threshold: relative to the threshold, ...
THRESHOLD_TOLERANCE = 1e-9
#: ... and relative to the values that the delta was computed from.
OPERAND_TOLERANCE = 1e-12
#: How many different budgets share their thresholds.
CACHED_BUDGETS = 512
#: Bits of which version's value is only the least that it can be.
RELEASE_LEAST, BASELINE_LEAST = 1, 2


class Threshold:
    """A threshold with its direction; a delta at the threshold, within the tolerance, is good.

    :param part: the part of the threshold that is tolerated.
    """

    __slots__ = ("sign", "signed", "tolerance")

    def __init__(self, budget: Budget, part: float = 1.0) -> None:
        self.sign = 1.0 if budget.worse is Worse.HIGHER else -1.0
        self.signed = self.sign * part * budget.threshold
        self.tolerance = THRESHOLD_TOLERANCE * abs(self.signed)

    def statuses(self, deltas: list[float], scale: Callable[[int], float]) -> list[Status]:
        """Return the status of each delta.

        :param scale: size of the operands of one delta in the delta's unit, called only near the threshold.
        """
        sign, threshold, tolerance = self.sign, self.signed, self.tolerance
        return [
            GOOD
            if -FINITE <= sign * delta <= threshold
            else UNKNOWN
            if not -FINITE <= delta <= FINITE
            else BAD
            if sign * delta - threshold > tolerance + OPERAND_TOLERANCE * scale(offset)
            else GOOD
            for offset, delta in enumerate(deltas)
        ]

    def status(self, budget: Budget, delta: float, release: float, baseline: float, least: int = 0) -> Status:
        """Return the status of one ``delta`` between two values.

        :param least: which of them are only the least that they can be.
        """
        scale = DELTA_FORMULAS[budget.comparison].scale
        found = self.statuses([delta], lambda _: scale(release, baseline))[0]
        return certain(budget, found, least) if least else found


def certain(budget: Budget, status: Status, least: int) -> Status:
    """Return a status that was found with least values, UNKNOWN where greater ones would change it.

    A greater value of the release only adds to the delta, one of the baseline only takes from it: a release
    that is too high with its least value is too high.

    :param least: :data:`RELEASE_LEAST`, :data:`BASELINE_LEAST`, or both.
    """
    if not budget.comparison.needs_baseline:
        least &= RELEASE_LEAST
    higher = budget.worse is Worse.HIGHER
    sure = {
        0: status,
        RELEASE_LEAST: BAD if higher else GOOD,
        BASELINE_LEAST: GOOD if higher else BAD,
    }.get(least, UNKNOWN)
    return status if status is sure else UNKNOWN


@lru_cache(CACHED_BUDGETS)
def threshold_of(budget: Budget, part: float = 1.0) -> Threshold:
    """Return the threshold of ``budget``, shared by all rollouts that have it."""
    return Threshold(budget, part)
