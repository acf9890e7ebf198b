"""The state of one budget, from look to look."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from datetime import timedelta
from enum import Enum
from typing import Self

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.comparison import Observation, View
from rollback_budget.engine.evaluation import UNKNOWN, Breach, BudgetEvaluation, Status
from rollback_budget.engine.frame import Frame
from rollback_budget.engine.increase import comparator_of
from rollback_budget.engine.messages import BreachEvidence, breach_sentence
from rollback_budget.engine.method import CountingPeriod, select_method
from rollback_budget.engine.suspension import NOT_SUSPENDED, Suspension, SuspensionIntervals
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget
from rollback_budget.model.spec import RolloutSpec

#: How many of its latest looks without data a budget remembers, to count those whose data comes late.
MAX_LOOKS_WITHOUT_DATA = 256


class OnBreach(Enum):
    """What a breach of one budget does to the watch."""

    END = "the watch ends"
    LIST_ONCE = "the first one is listed, and the watch goes on"
    START_OVER = "it is listed, and the budget starts over"
    IGNORE = "nothing"


class BudgetState:
    """Folds the looks of one budget.

    :param watch_from: from where the watch counts, in microseconds.
    :param budget_from: from where this budget counts: later after an override.
    :param first_look: time of the first look that may count, in microseconds.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        budget: Budget,
        *,
        watch_from: int,
        budget_from: int,
        first_look: int,
        on_breach: OnBreach,
    ) -> None:
        self.budget = budget
        self.breaches: tuple[Breach, ...] = ()
        self.ends_watch = False
        #: The unknown looks of the latest chunk, by their place in the frame.
        self.unknown: tuple[int, ...] = ()
        #: The suspended looks of the latest chunk, likewise.
        self.suspended: tuple[int, ...] = ()
        self._spec = spec
        self._series = budget.series
        self._watch_from = watch_from
        self._budget_from = budget_from
        self._first_look = first_look
        self._on_breach = on_breach
        self._last: Observation | None = None
        self._looks = 0
        self._unknown_looks = 0
        self._without_data: tuple[int, ...] = ()
        self._late_looks = 0
        self._suspended_looks = 0
        self._suspension: Suspension | None = None
        self.suspend(())
        self._start_over()

    def suspend(self, suspensions: Sequence[Suspension]) -> None:
        """Replace the suspensions (those of other budgets are ignored) for the looks still to be folded."""
        own = [one for one in suspensions if one.covers(self.budget)]
        self._intervals = SuspensionIntervals(own, self._spec.watch.settle) if own else NOT_SUSPENDED

    @property
    def status(self) -> Status | Suspension | None:
        """What the latest look found, or what it was suspended by; None before the first."""
        return None if self._last is None else self._suspension or self._last.status

    def fold(self, frame: Frame, first: int, stop: int) -> int:
        """Fold the looks ``first`` to ``stop - 1``, or up to a breach that ends the watch.

        :return: the look after the last one that was folded.
        """
        self.unknown = self.suspended = ()
        first = bisect_left(frame.times, self._first_look, first, stop)
        while first < stop:
            suspension, change = self._intervals.at(frame.times, first, stop)
            if (suspension is None) is not (self._suspension is None):
                self._start_over()
            self._suspension = suspension
            if suspension is not None:
                self._skip_suspended(frame, first, change)
                first = change
                continue
            end, breached = self._fold_until_breach(frame, first, change)
            if breached:
                self.breaches += (self._breach(),)
                if self._on_breach is OnBreach.END:
                    self.ends_watch = True
                    return end
                if self._on_breach is OnBreach.START_OVER:
                    self._start_over()
            first = end
        return stop

    def count_late_looks(self, frame: Frame, stop: int) -> None:
        """Count the looks before ``stop`` that were folded without data and have data now."""
        for look in range(stop):
            if frame.times[look] in self._without_data and not self._has_no_data(frame, look):
                self._without_data = tuple(time for time in self._without_data if time != frame.times[look])
                self._late_looks += 1

    def snapshot(self) -> BudgetSnapshot | None:
        """Return the snapshot after the latest look; None before the first."""
        if self._last is None:
            return None
        deciding = self._method.deciding
        return BudgetSnapshot(
            budget=self.budget.id,
            look=self._last,
            burn=deciding.burn,
            p_value=deciding.p_value,
            looks=self._looks,
            unknown_looks=self._unknown_looks,
            suspension=self._suspension,
        )

    def evaluation(self) -> BudgetEvaluation:
        """Return the evaluation after the latest look."""
        burn = timedelta(microseconds=self._method.deciding.burn)
        return BudgetEvaluation(
            budget=self.budget.id,
            tier=self.budget.tier,
            method=self._method.name,
            method_reason=self._method.reason,
            p_value=self._method.deciding.p_value,
            look=self._last.look() if self._last is not None else None,
            burn=burn,
            remaining=max(self.budget.max_duration - burn, timedelta(0)),
            looks=self._looks,
            unknown_looks=self._unknown_looks,
            late_looks=self._late_looks,
            suspended_looks=self._suspended_looks,
            suspended=self._suspension,
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._method, clone._comparator = self._method.copy(), self._comparator.copy()
        return clone

    def _fold_until_breach(self, frame: Frame, first: int, stop: int) -> tuple[int, bool]:
        stops_at_breach = self._on_breach is not OnBreach.IGNORE and not (
            self._on_breach is OnBreach.LIST_ONCE and self.breaches
        )
        view = self._comparator.view(frame.arms[self._series], first, stop)
        breach = self._method.fold(view, frame.times[first:stop], stop_at_breach=stops_at_breach)
        count = stop - first if breach is None else breach + 1
        self._record(frame, view, first, count)
        return first + count, breach is not None

    def _skip_suspended(self, frame: Frame, first: int, stop: int) -> None:
        """Record suspended looks: they are shown, and count for nothing."""
        view = self._comparator.view(frame.arms[self._series], first, stop)
        self._record(frame, view, first, stop - first)
        self.suspended += tuple(range(first, stop))
        self._suspended_looks += stop - first

    def _record(self, frame: Frame, view: View, first: int, count: int) -> None:
        self._comparator.advance(view, count)
        if UNKNOWN in view.statuses:
            unknown = tuple(
                first + offset for offset, status in enumerate(view.statuses[:count]) if status is UNKNOWN
            )
            self.unknown += unknown
            missed = tuple(frame.times[look] for look in unknown if self._has_no_data(frame, look))
            self._without_data = (self._without_data + missed)[-MAX_LOOKS_WITHOUT_DATA:]
            self._unknown_looks += view.statuses[:count].count(UNKNOWN)
        self._looks += count
        self._last = view.observation(count - 1, frame.times[first + count - 1])

    def _has_no_data(self, frame: Frame, look: int) -> bool:
        arms = frame.arms[self._series]
        return arms.release[look] != arms.release[look] or arms.baseline[look] != arms.baseline[look]

    def _start_over(self) -> None:
        self._comparator = comparator_of(self.budget, self._spec)
        period = CountingPeriod(
            self._watch_from, self._budget_from if self._last is None else self._last.time
        )
        self._method = select_method(self.budget, self._spec, period)

    def _breach(self) -> Breach:
        budget, method, last = self.budget, self._method.deciding, self._last
        assert last is not None
        assert method.started is not None
        burn = timedelta(microseconds=method.burn)
        over_burn = self._comparator.over_burn(method.mean, last)
        evidence = None
        if method.over is not None and method.p_value is not None:
            evidence = BreachEvidence(
                over=timedelta(microseconds=method.over),
                p_value=method.p_value,
                since=us_to_datetime(method.started),
            )
        return Breach(
            budget=budget.id,
            area=budget.area,
            metric=budget.metric,
            comparison=budget.comparison,
            slice=budget.slice,
            tier=budget.tier,
            severity=budget.severity,
            method=self._method.name,
            p_value=method.p_value,
            threshold=budget.threshold,
            max_duration=budget.max_duration,
            burn=burn,
            started_at=us_to_datetime(method.started),
            breached_at=us_to_datetime(last.time),
            delta=last.delta if evidence is None or over_burn.delta is None else over_burn.delta,
            over_burn=over_burn,
            sentence=breach_sentence(self._spec, budget, over_burn, burn, evidence),
            samples=tuple(look.look() for look in method.bad_looks),
        )
