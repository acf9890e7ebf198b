"""Suspensions: a budget that somebody has put out of force for a while, and says so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime

from rollback_budget.engine.time_us import length, micros
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget
from rollback_budget.model.spec import RolloutSpec

#: Instead of a budget or an area: every budget of the rollout.
EVERY_BUDGET: Final = "all"


class Suspension(Frozen):
    """Who put what out of force, why, and until when.

    :param budget: a budget's id, an area (all of its budgets), or ``all``.
    :param since: when it was recorded; never earlier, so that no look is judged twice.
    :param until: its end, which an early end brings forward.
    """

    budget: str
    since: AwareDatetime
    until: AwareDatetime
    by: str
    reason: str

    def covers(self, budget: Budget) -> bool:
        """Whether ``budget`` is suspended by this."""
        return self.budget in (budget.id, budget.area, EVERY_BUDGET)

    def __str__(self) -> str:
        what = "every budget is" if self.budget == EVERY_BUDGET else f"{self.budget} is"
        return f"{what} suspended by {self.by} until {self.until:%Y-%m-%d %H:%M} UTC: {self.reason}"


def names_in(specs: Iterable[RolloutSpec]) -> list[str]:
    """Return everything that can be suspended in these rollouts, by name."""
    budgets = [budget for spec in specs for budget in spec.budgets]
    names = [*(budget.id for budget in budgets), *(budget.area for budget in budgets), EVERY_BUDGET]
    return list(dict.fromkeys(names))


class SuspendedStretch:
    """The suspensions of one budget, in engine time.

    A look counts as suspended when it was not yet to be seen at ``since`` (it is younger than ``settle``), up
    to the one at ``until``.
    """

    __slots__ = ("_edges", "_held")

    def __init__(self, suspensions: Sequence[Suspension], settle: timedelta) -> None:
        newest = length(settle)
        spans = [
            (micros(one.since) - newest, micros(one.until), one)
            for one in suspensions
            if one.until > one.since
        ]
        #: Where it may change whether the budget is suspended, ascending.
        self._edges = tuple(sorted({edge for since, until, _ in spans for edge in (since, until)}))
        #: What holds after each edge: of several, the one that ends last.
        self._held = tuple(
            max(
                (span for span in spans if span[0] <= edge < span[1]),
                key=lambda span: (span[1], span[0]),
                default=None,
            )
            for edge in self._edges
        )

    def at(self, times: list[int], first: int, stop: int) -> tuple[Suspension | None, int]:
        """Return what holds at look ``first``, and before which look (at most ``stop``) that may change."""
        if not self._edges:
            return None, stop
        # A look at an edge still belongs to what was before it.
        place = bisect_right(self._edges, times[first] - 1)
        held = self._held[place - 1] if place else None
        end = stop if place == len(self._edges) else bisect_right(times, self._edges[place], first, stop)
        return (None if held is None else held[2]), end


#: Of a budget that nobody has suspended, which is nearly every one.
NEVER: Final = SuspendedStretch((), timedelta(0))
