"""Traces: every budget of one rollout at every look, for a chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.model.budget import Budget


@dataclass(frozen=True, slots=True)
class TracePoint:
    """One budget at one look; None is unknown."""

    time: datetime
    delta: float | None
    burn: timedelta
    p_value: float | None


@dataclass(frozen=True, slots=True)
class BudgetTrace:
    """One budget over the window.

    :param breached_at: its first breach, None when it was kept.
    """

    budget: Budget
    points: tuple[TracePoint, ...]
    breached_at: datetime | None


@dataclass(frozen=True, slots=True)
class Trace:
    """One rollout.

    :param alpha: the share of the false-rollback rate of one tested budget.
    :param onset: when it went bad, as far as known.
    """

    title: str
    alpha: float
    onset: datetime | None
    budgets: tuple[BudgetTrace, ...]
