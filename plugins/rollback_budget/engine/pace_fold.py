"""The budgets that are looked at in one pace, and how far their looks are folded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from copy import copy
from typing import Self

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.budget_state import BudgetState, OnBreach
from rollback_budget.engine.frame import Frame
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.decision import Action
from rollback_budget.model.pace import Pace
from rollback_budget.model.spec import RolloutSpec


class PaceFold:
    """The states of the budgets of one pace; all times are in microseconds.

    :param place: the pace's place in the spec.
    :param watch_from: from where the watch counts.
    :param end: of the window.
    """

    def __init__(self, place: int, pace: Pace, watch_from: int, end: int) -> None:
        self.place = place
        self.step = duration_to_us(pace.every)
        #: How much later than a look of ``watch.settle`` one of the same time is decided.
        self.shift = duration_to_us(pace.shift)
        self.blind_after = duration_to_us(pace.blind_after)
        self.watch_from = watch_from + duration_to_us(pace.leaves_out)
        self.states: list[BudgetState] = []
        #: Up to where looks are folded.
        self.until: int | None = None
        #: Time of the latest look that is folded.
        self.looked_at: int | None = None
        self._end = end
        self._next_look = self.watch_from + self.step

    def add(self, spec: RolloutSpec, budget: Budget, budget_from: int, on_breach: OnBreach) -> None:
        """Add a budget.

        :param budget_from: from where it counts: later after an override.
        :raises RollbackBudgetError: it asks for a method that is not there.
        """
        budget_from = max(budget_from, self.watch_from)
        self.states.append(
            BudgetState(
                spec,
                budget,
                watch_from=self.watch_from,
                budget_from=budget_from,
                first_look=max(self._next_look, budget_from + 1),
                on_breach=on_breach,
            )
        )

    @property
    def is_over(self) -> bool:
        """Whether no further look fits into the window."""
        if self.until is None:
            return False
        latest = self.watch_from if self.looked_at is None else self.looked_at
        return self.until >= self._end or latest + self.step > self._end

    def turn(self, frame: Frame) -> Turn:
        """Return the looks of ``frame`` that are new, and count those before that have their data now."""
        first = bisect_left(frame.times, self._next_look)
        for state in self.states if first else ():
            state.count_late_looks(frame, first)
        return Turn(self, frame, first, bisect_right(frame.times, min(self._end, frame.end)))

    def advance_to(self, until: int) -> None:
        """Note that looks are folded up to ``until``."""
        self.until = until if self.until is None else max(self.until, until)
        self._next_look = max(self._next_look, until + 1)

    def not_judged(self, *, is_final: bool, is_over: bool) -> Iterator[tuple[BudgetState, str]]:
        """Yield the budgets of which nothing can be said, and why.

        :param is_final: whether no further look counts.
        :param is_over: whether the window is over.
        """
        for state in self.states:
            said = state.not_judged(self.blind_after, is_final=is_final, is_over=is_over)
            if said is not None:
                yield state, said

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone.states = [state.copy() for state in self.states]
        return clone


class Turn:
    """The looks of one frame that one pace has to fold.

    :param first: the place of the next one.
    :param stop: the place behind the last one.
    :ivar is_said: whether its looks are reported.
    """

    __slots__ = ("first", "frame", "is_said", "pace", "stop")

    def __init__(self, pace: PaceFold, frame: Frame, first: int, stop: int) -> None:
        self.pace = pace
        self.frame = frame
        self.first = first
        self.stop = stop
        self.is_said = True

    def clock(self, look: int) -> int:
        """Return the time of the look of ``watch.settle`` that is decided with ``look``."""
        return self.frame.times[look] + self.pace.shift

    def first_at(self, clock: int) -> int:
        """Return the place of the first look that is decided when the clock shows ``clock``, or later."""
        return bisect_left(self.frame.times, clock - self.pace.shift, self.first, self.stop)

    def snapshots(self, look: int) -> tuple[BudgetSnapshot, ...]:
        """Return a snapshot of every budget that ``look`` counted for."""
        time = self.frame.times[look]
        each = (state.snapshot() for state in self.pace.states)
        return tuple(one for one in each if one is not None and one.look.time == time)


def on_breach_of(
    spec: RolloutSpec, budget: Budget, tiers: frozenset[Tier] | None, *, keep_going: bool
) -> OnBreach:
    """Return what a breach of a budget does to the watch.

    :param tiers: whose breaches count; None for all.
    :param keep_going: list every breach up to the window's end.
    """
    if tiers is not None and budget.tier not in tiers:
        return OnBreach.IGNORE
    if keep_going:
        return OnBreach.START_OVER
    records = spec.decision.of(budget.tier).action is Action.RECORD_ONLY
    return OnBreach.LIST_ONCE if records else OnBreach.END
