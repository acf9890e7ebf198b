"""Comparators: turn samples of both versions into looks with a delta and a status."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, nan
from typing import NamedTuple, Protocol, Self

from rollback_budget.engine.delta import DELTA_FORMULAS
from rollback_budget.engine.evaluation import UNKNOWN, Comparand, Look, Status
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import FINITE, quantile_of
from rollback_budget.engine.resolution import on_common_bounds
from rollback_budget.engine.threshold_tolerance import (
    BASELINE_LEAST,
    RELEASE_LEAST,
    certain,
    threshold_of,
)
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget

#: How many different budgets share their comparators.
CACHED_BUDGETS = 512


class Observation(NamedTuple):
    """One look inside the engine: engine time, NaN for unknown.

    :param least: :data:`RELEASE_LEAST`, :data:`BASELINE_LEAST`, both or none.
    """

    time: int
    status: Status
    delta: float
    release: float
    baseline: float
    release_n: float
    baseline_n: float
    least: int = 0

    def look(self) -> Look:
        """Return the public form."""
        return Look(
            time=us_to_datetime(self.time),
            status=self.status,
            **_known(*self[2:7]),
            **_lower_bounds(self.least),
        )

    def comparand(self) -> Comparand:
        """Return the public form without time and status."""
        return Comparand(**_known(*self[2:7]), **_lower_bounds(self.least))


class ArmMeans(NamedTuple):
    """Both arms averaged over the bad looks of a burn, weighted by events where every look has them.

    :param least: as in :class:`Observation`.
    """

    release: float
    baseline: float
    release_n: float
    baseline_n: float
    least: int = 0


NOTHING_KNOWN = ArmMeans(nan, nan, nan, nan)


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
            least_at(arms, offset),
        )


def least_at(arms: Arms, look: int) -> int:
    """Return which arms' values are only the least that they can be."""
    if not arms.release_least:
        return 0
    return RELEASE_LEAST * arms.release_least[look] + BASELINE_LEAST * arms.baseline_least[look]


def fewest_events(budget: Budget) -> int:
    """Return how many events a look of each version needs, where their number is known.

    The 95th percentile of fewer than 20 requests is the slowest of them, and how slow that is depends on how
    many there were: with less traffic one version would look faster than the other.
    """
    level = quantile_of(budget.metric)
    if level is None or not 0.0 < level < 1.0 or not budget.comparison.needs_baseline:
        return budget.min_samples
    return max(budget.min_samples, ceil(1.0 / (1.0 - level) - 1e-9))


class Comparator(Protocol):
    """Turns the samples of one budget into looks; may hold state of earlier looks."""

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``, without changing the state."""
        ...

    def advance(self, view: View, count: int) -> None:
        """Add the first ``count`` looks of ``view`` to the state."""
        ...

    def add_late(self, before: Arms, now: Arms) -> None:
        """Replace what one look was folded with by what it is now; each is of one look."""
        ...

    def over_burn(self, mean: ArmMeans, last: Observation) -> Comparand:
        """Return what a breach quotes: ``mean`` over the burn, or the sums at ``last``."""
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


class PointwiseComparator:
    """For every comparison but ``_increase``: a look depends on its own samples only."""

    __slots__ = ("_budget", "_delta", "_fewest", "_needs_baseline", "_scale", "_threshold")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._threshold = threshold_of(budget)
        self._needs_baseline = budget.comparison.needs_baseline
        self._fewest = fewest_events(budget)
        self._delta, self._scale = DELTA_FORMULAS[budget.comparison]

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``."""
        arms = arms.part(first, stop)
        if arms.columns is not None:
            of_budget = self._budget.comparison, self._threshold
            return View(arms, *arms.columns.compared(*of_budget, self._fewest))
        if self._needs_baseline and arms.release_buckets:
            arms = on_common_bounds(arms, self._budget)
        deltas = self._delta(arms.release, arms.baseline)
        if self._needs_baseline:
            deltas = [
                nan if release_n < least or baseline_n < least else delta
                for delta, release_n, baseline_n, least in zip(
                    deltas, arms.release_n, arms.baseline_n, self._fewest_events(arms), strict=True
                )
            ]
        else:
            least = self._budget.min_samples
            deltas = [
                nan if release_n < least else delta
                for delta, release_n in zip(deltas, arms.release_n, strict=True)
            ]
        scale = self._scale
        statuses = self._threshold.statuses(
            deltas, lambda offset: scale(arms.release[offset], arms.baseline[offset])
        )
        if arms.release_least:
            for offset, status in enumerate(statuses):
                least = least_at(arms, offset)
                if least and certain(self._budget, status, least) is UNKNOWN:
                    deltas[offset], statuses[offset] = nan, UNKNOWN
        return View(arms, deltas, statuses)

    def _fewest_events(self, arms: Arms) -> list[int]:
        """Return how many events each look needs."""
        if not arms.release_buckets:
            return [self._fewest] * len(arms.release)
        # A histogram is counted beyond its bounds, whatever its quantile is worth.
        least = self._budget.min_samples
        return [
            least if release is not None and baseline is not None else self._fewest
            for release, baseline in zip(arms.release_buckets, arms.baseline_buckets, strict=True)
        ]

    def advance(self, view: View, count: int) -> None:
        """Do nothing: there is no state."""

    def add_late(self, before: Arms, now: Arms) -> None:
        """Replace nothing: a look that is decided stays as it is."""

    def over_burn(self, mean: ArmMeans, last: Observation) -> Comparand:  # noqa: ARG002
        """Return the averages, and the delta between them."""
        delta = self._delta([mean.release], [mean.baseline])[0]
        return Comparand(**_known(delta, *mean[:4]), **_lower_bounds(mean.least))

    def copy(self) -> Self:
        """Return itself: there is no state."""
        return self


@lru_cache(CACHED_BUDGETS)
def pointwise_comparator(budget: Budget) -> PointwiseComparator:
    """Return the comparator of ``budget``, shared by all rollouts that have it."""
    return PointwiseComparator(budget)


def _lower_bounds(least: int) -> dict[str, bool]:
    return {
        "release_is_least": bool(least & RELEASE_LEAST),
        "baseline_is_least": bool(least & BASELINE_LEAST),
    }


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
