"""The query to a source of cases: the requests of one release that failed while a budget burned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.engine.evaluation import Breach
from rollback_budget.ledger.views import LoggedBreach, Rollout
from rollback_budget.model.budget import Comparison, Worse
from rollback_budget.model.pace import pace_of


@dataclass(frozen=True, slots=True)
class FailureQuery:
    """Which requests are wanted.

    :param start: exclusive; ``end`` is inclusive, as the samples of a budget are.
    :param bound: the value beyond which the metric broke the budget, in the metric's unit; None where a
        single request has no such value.
    :param worse: which side of ``bound`` fails.
    :param limit: how many requests are read at most.
    """

    metric: str
    slice: str | None
    release: str
    baseline: str
    start: datetime
    end: datetime
    bound: float | None
    worse: Worse
    limit: int


class CaseSource(Protocol):
    """Where failing requests are found."""

    async def failing(self, query: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError or CaseError."""
        ...


def failure_query_of(logged: LoggedBreach, rollout: Rollout) -> FailureQuery:
    """Return the query for the failing requests of a breach.

    The window is that of the breach, ``started_at`` to ``breached_at``, with the step that ends at
    ``started_at``, and with the time that values need to arrive where they count when they do; events that
    are counted since the beginning are looked for since then.
    """
    breach, spec = logged.breach, rollout.spec
    pace = pace_of(spec, breach.metric)
    start = breach.started_at - pace.every - pace.leaves_out
    if breach.comparison is Comparison.INCREASE and rollout.shipped_at is not None:
        start = min(start, rollout.shipped_at)
    return FailureQuery(
        metric=breach.metric,
        slice=breach.slice,
        release=logged.release,
        baseline=logged.baseline,
        start=start,
        end=breach.breached_at,
        bound=_bound(breach),
        worse=next((one.worse for one in spec.budgets if one.id == breach.budget), Worse.HIGHER),
        limit=spec.cases.candidates,
    )


def _bound(breach: Breach) -> float | None:
    base, threshold = breach.over_burn.baseline_value, breach.threshold
    match breach.comparison:
        case Comparison.ABOVE | Comparison.BELOW:
            return threshold
        case Comparison.INCREASE:
            return None
        case _ if base is None:
            return None
        case Comparison.DELTA_PCT:
            return base * (1 + threshold / 100)
        case Comparison.DELTA_PP:
            return base + threshold / 100
        case _:
            return base + threshold
