"""Deltas: how a release differs from its baseline, in the unit of each comparison."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import NamedTuple

from rollback_budget.model.budget import Budget, Comparison


class DeltaFormula(NamedTuple):
    """How one comparison computes its delta.

    :param delta: from the values of the release and of the baseline, look by look; NaN is unknown.
    :param scale: the size of the operands of one delta, in the delta's unit.
    """

    delta: Callable[[list[float], list[float]], list[float]]
    scale: Callable[[float, float], float]


def delta_of(budget: Budget, release: float, baseline: float) -> float:
    """Return the delta between two values in the comparison's unit, NaN when unknown."""
    return DELTA_FORMULAS[budget.comparison].delta([release], [baseline])[0]


def _relative(release: list[float], baseline: list[float]) -> list[float]:
    """A relative delta over a zero baseline is unknown; over a negative one, up is still up."""
    return [100.0 * (r - b) / abs(b) if b else nan for r, b in zip(release, baseline, strict=True)]


def _percentage_points(release: list[float], baseline: list[float]) -> list[float]:
    return [100.0 * (r - b) for r, b in zip(release, baseline, strict=True)]


def _absolute(release: list[float], baseline: list[float]) -> list[float]:
    return [r - b for r, b in zip(release, baseline, strict=True)]


def _release_value(release: list[float], baseline: list[float]) -> list[float]:  # noqa: ARG001
    return release


_RELEASE_VALUE = DeltaFormula(_release_value, lambda r, _: abs(r))

#: By comparison; ``_increase`` adds up events and is not among them.
DELTA_FORMULAS: dict[Comparison, DeltaFormula] = {
    Comparison.DELTA_PCT: DeltaFormula(_relative, lambda r, b: 100.0 * (abs(r / b) + 1.0)),
    Comparison.DELTA_PP: DeltaFormula(_percentage_points, lambda r, b: 100.0 * (abs(r) + abs(b))),
    Comparison.DELTA: DeltaFormula(_absolute, lambda r, b: abs(r) + abs(b)),
    Comparison.ABOVE: _RELEASE_VALUE,
    Comparison.BELOW: _RELEASE_VALUE,
}
