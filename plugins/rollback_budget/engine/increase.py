"""``_increase``: events counted since the window began, the baseline's scaled to the release's exposure."""

from __future__ import annotations

from math import isnan, nan
from typing import Self

from rollback_budget.engine.comparison import ArmMeans, Comparator, Observation, View, pointwise_comparator
from rollback_budget.engine.evaluation import Comparand
from rollback_budget.engine.frame import Arms
from rollback_budget.engine.threshold_tolerance import threshold_of
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.spec import RolloutSpec


class IncreaseComparator:
    """Adds up events and exposure of both arms, each from all of its own samples.

    A look is known when both arms have a sample there, so an incident in a step whose baseline is missing
    counts at the next known look. Exposure that is unknown once is unknown for good: events are then
    compared as they are.

    :param by_look: scale the baseline's events look by look, and not in one go over the whole window: the
        traffic is divided anew on the way, and an early event of a large baseline is not one of a small one.
    """

    __slots__ = ("_budget", "_by_look", "_expected", "_so_far", "_threshold")

    def __init__(self, budget: Budget, *, by_look: bool = False) -> None:
        self._budget = budget
        self._by_look = by_look
        self._threshold = threshold_of(budget)
        self._so_far = (0.0, 0.0, 0.0, 0.0)
        #: The baseline's events so far, scaled look by look.
        self._expected = 0.0

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
        scaled = self._scale(total)
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
        statuses = self._threshold.statuses(
            deltas, lambda offset: abs(total.release[offset]) + abs(scaled[offset])
        )
        return View(total, deltas, statuses)

    def advance(self, view: View, count: int) -> None:
        """Remember the sums after the first ``count`` looks."""
        arms, last = view.arms, count - 1
        if self._by_look:
            self._expected = self._scale(arms.part(0, count))[last]
        self._so_far = (
            arms.release[last],
            arms.release_n[last],
            arms.baseline[last],
            arms.baseline_n[last],
        )

    def add_late(self, before: Arms, now: Arms) -> None:
        """Replace the events and the exposure of one look; they count from the next look on."""
        then, late = _added(before), _added(now)
        release, release_n, baseline, baseline_n = (
            sum_ + (new - old) for sum_, old, new in zip(self._so_far, then, late, strict=True)
        )
        self._so_far = release, release_n, baseline, baseline_n
        if self._by_look:
            self._expected += _scaled(late[2], late[3], late[1]) - _scaled(then[2], then[3], then[1])

    def over_burn(self, mean: ArmMeans, last: Observation) -> Comparand:  # noqa: ARG002
        """Return the sums at the last look; averages of sums would say nothing."""
        return last.comparand()

    def copy(self) -> Self:
        """Return one that counts on from here on its own."""
        clone = type(self)(self._budget, by_look=self._by_look)
        clone._so_far, clone._expected = self._so_far, self._expected
        return clone

    def _scale(self, total: Arms) -> list[float]:
        """Return the baseline's events up to each look, scaled to the release's exposure."""
        at_once = list(map(_scaled, total.baseline, total.baseline_n, total.release_n))
        if not self._by_look:
            return at_once
        _, of_release, events, of_baseline = self._so_far
        expected = self._expected
        for look, whole in enumerate(at_once):
            now = total.baseline[look], total.baseline_n[look], total.release_n[look]
            expected += _scaled(now[0] - events, now[1] - of_baseline, now[2] - of_release)
            events, of_baseline, of_release = now
            at_once[look] = whole if isnan(of_baseline) or isnan(of_release) else expected
        return at_once


def comparator_of(budget: Budget, spec: RolloutSpec) -> Comparator:
    """Return the comparator of ``budget``, fresh where it has state."""
    if budget.comparison is Comparison.INCREASE:
        return IncreaseComparator(budget, by_look=spec.has_stages)
    return pointwise_comparator(budget)


def _added(look: Arms) -> tuple[float, float, float, float]:
    """Return what one look adds to the sums: of an arm without a sample nothing."""
    release = (look.release[0], look.release_n[0]) if look.release[0] == look.release[0] else (0.0, 0.0)
    baseline = (look.baseline[0], look.baseline_n[0]) if look.baseline[0] == look.baseline[0] else (0.0, 0.0)
    return (*release, *baseline)


def _events(values: list[float], so_far: float) -> list[float]:
    sums = []
    for value in values:
        if value == value:
            so_far += value
        sums.append(so_far)
    return sums


def _exposure(counts: list[float], values: list[float], so_far: float) -> list[float]:
    sums = []
    for n, value in zip(counts, values, strict=True):
        if value == value:
            so_far += n
        sums.append(so_far)
    return sums


def _scaled(events: float, exposure: float, release_exposure: float) -> float:
    if exposure != exposure or release_exposure != release_exposure:
        return events
    return events * (release_exposure / exposure) if exposure > 0.0 else 0.0
