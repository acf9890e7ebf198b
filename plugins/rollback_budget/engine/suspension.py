"""Suspensions: a commander disables a budget for a limited time, with a reason."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime

from rollback_budget.engine.time_us import datetime_to_us, duration_to_us
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget
from rollback_budget.model.spec import RolloutSpec

#: Instead of a budget or an area: every budget of the rollout.
EVERY_BUDGET: Final = "all"


class Suspension(Frozen):
    """Who suspended what, why, and until when.

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


def suspendable_names(specs: Iterable[RolloutSpec]) -> list[str]:
    """Return everything that can be suspended in these rollouts: budget ids, areas, and ``all``."""
    budgets = [budget for spec in specs for budget in spec.budgets]
    names = [*(budget.id for budget in budgets), *(budget.area for budget in budgets), EVERY_BUDGET]
    return list(dict.fromkeys(names))


class SuspensionIntervals:
    """The suspensions of one budget, in engine time.

    Suspended are the looks from the first that had not settled at ``since`` (younger than ``settle``)
    up to the one at ``until``.
    """

    __slots__ = ("_active", "_edges")

    def __init__(self, suspensions: Sequence[Suspension], settle: timedelta) -> None:
        newest = duration_to_us(settle)
        spans = [
            (datetime_to_us(one.since) - newest, datetime_to_us(one.until), one)
            for one in suspensions
            if one.until > one.since
        ]
        #: The times at which a suspension begins or ends, ascending.
        self._edges = tuple(sorted({edge for since, until, _ in spans for edge in (since, until)}))
        #: The active suspension after each edge: of several, the one that ends last.
        self._active = tuple(
            max(
                (period for period in spans if period[0] <= edge < period[1]),
                key=lambda period: (period[1], period[0]),
                default=None,
            )
            for edge in self._edges
        )

    def at(self, times: list[int], first: int, stop: int) -> tuple[Suspension | None, int]:
        """Return the suspension of look ``first``, and before which look (at most ``stop``) it may change."""
        if not self._edges:
            return None, stop
        # A look at an edge still belongs to what was before it.
        place = bisect_right(self._edges, times[first] - 1)
        active = self._active[place - 1] if place else None
        end = stop if place == len(self._edges) else bisect_right(times, self._edges[place], first, stop)
        return (None if active is None else active[2]), end


#: The intervals of a budget without suspensions, which is nearly every one.
NOT_SUSPENDED: Final = SuspensionIntervals((), timedelta(0))
