"""``_increase``: events counted since the window began, the baseline's scaled to the release's exposure."""

from __future__ import annotations

from itertools import accumulate
from math import nan
from typing import Self

from rollback_budget.engine.comparison import Comparing, Limit, Mean, Observation, Pointwise, View
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.result import Comparand
from rollback_budget.spec.model import Budget, Comparison


class Increase:
    """Adds up events and exposure of both arms, each from all of its own samples.

    A look is known when both arms have a sample there, so an incident in a step whose baseline is missing
    counts at the next known look. Exposure that is unknown once is unknown for good: events are then
    compared as they are.
    """

    __slots__ = ("_budget", "_limit", "_so_far")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._limit = Limit(budget)
        self._so_far = (0.0, 0.0, 0.0, 0.0)

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``; their values and counts are the sums up to there."""
        now = arms.part(first, stop)
        release, release_n, baseline, baseline_n = self._so_far
        total = Arms(
            _events(now.release, release),
            _exposure(now.release_n, now.release, release_n),
            _events(now.baseline, baseline),
            _exposure(now.baseline_n, now.baseline, baseline_n),
        )
        least = self._budget.min_samples
        scaled = list(map(_scaled, total.baseline, total.baseline_n, total.release_n))
        deltas = [
            nan if value != value or other != other or n < least or other_n < least else events - expected
            for value, n, other, other_n, events, expected in zip(
                now.release,
                now.release_n,
                now.baseline,
                now.baseline_n,
                total.release,
                scaled,
                strict=True,
            )
        ]
        statuses = self._limit.statuses(
            deltas, lambda offset: abs(total.release[offset]) + abs(scaled[offset])
        )
        return View(total, deltas, statuses)

    def advance(self, view: View, count: int) -> None:
        """Remember the sums after the first ``count`` looks."""
        arms, last = view.arms, count - 1
        self._so_far = (
            arms.release[last],
            arms.release_n[last],
            arms.baseline[last],
            arms.baseline_n[last],
        )

    def over_burn(self, mean: Mean, last: Observation) -> Comparand:  # noqa: ARG002
        """Return the sums at the last look; averages of sums would say nothing."""
        return last.comparand()

    def copy(self) -> Self:
        """Return one that counts on from here on its own."""
        twin = type(self)(self._budget)
        twin._so_far = self._so_far
        return twin


def comparing(budget: Budget) -> Comparing:
    """Return what turns the samples of ``budget`` into looks."""
    return Increase(budget) if budget.comparison is Comparison.INCREASE else Pointwise(budget)


def _events(values: list[float], so_far: float) -> list[float]:
    known = (value if value == value else 0.0 for value in values)
    return list(accumulate(known, initial=so_far))[1:]


def _exposure(counts: list[float], values: list[float], so_far: float) -> list[float]:
    counted = (n if value == value else 0.0 for n, value in zip(counts, values, strict=True))
    return list(accumulate(counted, initial=so_far))[1:]


def _scaled(events: float, exposure: float, release_exposure: float) -> float:
    if exposure != exposure or release_exposure != release_exposure:
        return events
    return events * (release_exposure / exposure) if exposure > 0.0 else 0.0
