"""Comparators: turn samples of both versions into looks with a delta and a status."""

from __future__ import annotations

from functools import lru_cache
from math import nan
from typing import NamedTuple, Protocol, Self

from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.evaluation import Comparand, Look, Status
from rollback_budget.engine.frame import FINITE, Arms
from rollback_budget.engine.threshold_tolerance import threshold_of
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget

#: How many different budgets share their comparators.
CACHED_BUDGETS = 512


class Observation(NamedTuple):
    """One look inside the engine: engine time, NaN for unknown."""

    time: int
    status: Status
    delta: float
    release: float
    baseline: float
    release_n: float
    baseline_n: float

    def look(self) -> Look:
        """Return the public form."""
        return Look(time=us_to_datetime(self.time), status=self.status, **_known(*self[2:]))

    def comparand(self) -> Comparand:
        """Return the public form without time and status."""
        return Comparand(**_known(*self[2:]))


class ArmMeans(NamedTuple):
    """Both arms averaged over the bad looks of a burn, weighted by events where every look has them."""

    release: float
    baseline: float
    release_n: float
    baseline_n: float


class View(NamedTuple):
    """The looks of one budget in one chunk of a frame; all lists are parallel."""

    arms: Arms
    deltas: list[float]
    statuses: list[Status]

    def observation(self, offset: int, time: int) -> Observation:
        """Return look ``offset``, which is at ``time``."""
        arms = self.arms
        return Observation(
            time,
            self.statuses[offset],
            self.deltas[offset],
            arms.release[offset],
            arms.baseline[offset],
            arms.release_n[offset],
            arms.baseline_n[offset],
        )


class Comparator(Protocol):
    """Turns the samples of one budget into looks; may hold state of earlier looks."""

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``, without changing the state."""
        ...

    def advance(self, view: View, count: int) -> None:
        """Add the first ``count`` looks of ``view`` to the state."""
        ...

    def over_burn(self, mean: ArmMeans, last: Observation) -> Comparand:
        """Return what a breach quotes: ``mean`` over the burn, or the sums at ``last``."""
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


class PointwiseComparator:
    """For every comparison but ``_increase``: a look depends on its own samples only."""

    __slots__ = ("_budget", "_delta", "_needs_baseline", "_scale", "_threshold")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._threshold = threshold_of(budget)
        self._needs_baseline = budget.comparison.needs_baseline
        self._delta, self._scale = DELTA_FORMULAS[budget.comparison]

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``."""
        arms = arms.part(first, stop)
        least = self._budget.min_samples
        deltas = self._delta(arms.release, arms.baseline)
        if self._needs_baseline:
            deltas = [
                nan if release_n < least or baseline_n < least else delta
                for delta, release_n, baseline_n in zip(deltas, arms.release_n, arms.baseline_n, strict=True)
            ]
        else:
            deltas = [
                nan if release_n < least else delta
                for delta, release_n in zip(deltas, arms.release_n, strict=True)
            ]
        scale = self._scale
        statuses = self._threshold.statuses(
            deltas, lambda offset: scale(arms.release[offset], arms.baseline[offset])
        )
        return View(arms, deltas, statuses)

    def advance(self, view: View, count: int) -> None:
        """Do nothing: there is no state."""

    def over_burn(self, mean: ArmMeans, last: Observation) -> Comparand:  # noqa: ARG002
        """Return the averages, and the delta between them."""
        delta = self._delta([mean.release], [mean.baseline])[0]
        return Comparand(**_known(delta, *mean))

    def copy(self) -> Self:
        """Return itself: there is no state."""
        return self


@lru_cache(CACHED_BUDGETS)
def pointwise_comparator(budget: Budget) -> PointwiseComparator:
    """Return the comparator of ``budget``, shared by all rollouts that have it."""
    return PointwiseComparator(budget)


def _known(
    delta: float, release: float, baseline: float, release_n: float, baseline_n: float
) -> dict[str, float | None]:
    values = {
        "delta": delta,
        "release_value": release,
        "baseline_value": baseline,
        "release_n": release_n,
        "baseline_n": baseline_n,
    }
    return {name: value if -FINITE <= value <= FINITE else None for name, value in values.items()}
