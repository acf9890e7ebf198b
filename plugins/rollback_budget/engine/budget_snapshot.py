"""Snapshots: one budget after one look, small enough to be recorded for every look."""

from __future__ import annotations

from typing import NamedTuple

from rollback_budget.engine.comparison import Observation
from rollback_budget.engine.suspension import Suspension


class BudgetSnapshot(NamedTuple):
    """One budget after one look.

    :param look: the observation, in engine time; NaN is unknown.
    :param burn: how much of the budget's duration is used up, in microseconds.
    :param p_value: always-valid; None for a method without one.
    :param looks: how many there were so far, including ``unknown_looks``.
    :param suspension: the suspension that the look was made under; None when the budget is not suspended.
    :param why_unknown: why the look is unknown although something came; None where it is not so.
    """

    budget: str
    look: Observation
    burn: int
    p_value: float | None
    looks: int
    unknown_looks: int
    suspension: Suspension | None = None
    why_unknown: str | None = None
