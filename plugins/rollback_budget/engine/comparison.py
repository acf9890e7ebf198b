"""Comparisons: what one look at both arms says, for every comparison whose looks stand alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import nan
from typing import NamedTuple, Protocol, Self

from rollback_budget.engine.evaluation import Comparand, Look, Status
from rollback_budget.engine.frame import FINITE, Arms
from rollback_budget.engine.time_us import moment
from rollback_budget.model.budget import Budget, Comparison, Worse

UNKNOWN, GOOD, BAD = Status.UNKNOWN, Status.GOOD, Status.BAD

#: A delta this close to the threshold is at the threshold: relative to it, and to what it was computed from.
NEAR_THRESHOLD = 1e-9
NEAR_OPERANDS = 1e-12
#: Of so many different budgets.
LIMITS_HELD = 512


class Observation(NamedTuple):
    """One look as the fold keeps it: engine time, NaN for unknown."""

    time: int
    status: Status
    delta: float
    release: float
    baseline: float
    release_n: float
    baseline_n: float

    def look(self) -> Look:
        """Return the public form."""
        return Look(time=moment(self.time), status=self.status, **_known(*self[2:]))

    def comparand(self) -> Comparand:
        """Return the public form without time and status."""
        return Comparand(**_known(*self[2:]))


class Mean(NamedTuple):
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


class Comparing(Protocol):
    """Turns samples into looks. What it remembers of earlier looks is its own."""

    def view(self, arms: Arms, first: int, stop: int) -> View:
        """Return the looks ``first`` to ``stop - 1``, remembering nothing yet."""
        ...

    def advance(self, view: View, count: int) -> None:
        """Remember the first ``count`` looks of ``view``."""
        ...

    def over_burn(self, mean: Mean, last: Observation) -> Comparand:
        """Return what a breach quotes: ``mean`` over the burn, or what ``last`` has added up to."""
        ...

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        ...


class Limit:
    """A threshold with its direction; a delta at the threshold, give or take float noise, is good.

    :param part: of the threshold, where only a part of it is tolerated.
    """

    __slots__ = ("_edge", "_near", "_sign")

    def __init__(self, budget: Budget, part: float = 1.0) -> None:
        self._sign = 1.0 if budget.worse is Worse.HIGHER else -1.0
        self._edge = self._sign * part * budget.threshold
        self._near = NEAR_THRESHOLD * abs(self._edge)

    def statuses(self, deltas: list[float], scale: Callable[[int], float]) -> list[Status]:
        """Return the status of each delta.

        :param scale: size of the operands of one delta in the delta's unit, asked only when it may matter.
        """
        sign, edge, near = self._sign, self._edge, self._near
        return [
            GOOD
            if -FINITE <= sign * delta <= edge
            else UNKNOWN
            if not -FINITE <= delta <= FINITE
            else BAD
            if sign * delta - edge > near + NEAR_OPERANDS * scale(offset)
            else GOOD
            for offset, delta in enumerate(deltas)
        ]

    def status(self, budget: Budget, delta: float, release: float, baseline: float) -> Status:
        """Return the status of one ``delta`` between two values."""
        scale = _FORMULAS[budget.comparison][1]
        return self.statuses([delta], lambda _: scale(release, baseline))[0]


@lru_cache(LIMITS_HELD)
def limit_of(budget: Budget, part: float = 1.0) -> Limit:
    """Return the limit of ``budget``, held once for all rollouts that have it."""
    return Limit(budget, part)


class Pointwise:
    """Every comparison but ``_increase``: a look needs nothing but its own samples."""

    __slots__ = ("_budget", "_delta", "_limit", "_needs_baseline", "_scale")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._limit = limit_of(budget)
        self._needs_baseline = budget.comparison.needs_baseline
        self._delta, self._scale = _FORMULAS[budget.comparison]

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
        statuses = self._limit.statuses(
            deltas, lambda offset: scale(arms.release[offset], arms.baseline[offset])
        )
        return View(arms, deltas, statuses)

    def advance(self, view: View, count: int) -> None:
        """Remember nothing."""

    def over_burn(self, mean: Mean, last: Observation) -> Comparand:  # noqa: ARG002
        """Return the averages, and the delta between them."""
        delta = self._delta([mean.release], [mean.baseline])[0]
        return Comparand(**_known(delta, *mean))

    def copy(self) -> Self:
        """Return itself: there is no state."""
        return self


@lru_cache(LIMITS_HELD)
def pointwise_of(budget: Budget) -> Pointwise:
    """Return what turns samples of ``budget`` into looks, held once for all rollouts that have it."""
    return Pointwise(budget)


def delta_of(budget: Budget, release: float, baseline: float) -> float:
    """Return the delta between two values in the comparison's unit, NaN when unknown."""
    return _FORMULAS[budget.comparison][0]([release], [baseline])[0]


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


def _relative(release: list[float], baseline: list[float]) -> list[float]:
    """A relative delta over a zero baseline is unknown; over a negative one, up is still up."""
    return [100.0 * (r - b) / abs(b) if b else nan for r, b in zip(release, baseline, strict=True)]


def _points(release: list[float], baseline: list[float]) -> list[float]:
    return [100.0 * (r - b) for r, b in zip(release, baseline, strict=True)]


def _absolute(release: list[float], baseline: list[float]) -> list[float]:
    return [r - b for r, b in zip(release, baseline, strict=True)]


def _own(release: list[float], baseline: list[float]) -> list[float]:  # noqa: ARG001
    return release


_Formula = tuple[Callable[[list[float], list[float]], list[float]], Callable[[float, float], float]]
_OWN: _Formula = (_own, lambda r, _: abs(r))

#: For each comparison, the delta and the size of its operands in the delta's unit.
_FORMULAS: dict[Comparison, _Formula] = {
    Comparison.DELTA_PCT: (_relative, lambda r, b: 100.0 * (abs(r / b) + 1.0)),
    Comparison.DELTA_PP: (_points, lambda r, b: 100.0 * (abs(r) + abs(b))),
    Comparison.DELTA: (_absolute, lambda r, b: abs(r) + abs(b)),
    Comparison.ABOVE: _OWN,
    Comparison.BELOW: _OWN,
}
