"""The engine's result: looks, breaches and the verdict, as JSON that round-trips."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import AwareDatetime

from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Comparison, Method, Severity, Tier


class Status(StrEnum):
    """What one look at one budget found."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


#: Short names: the engine reads them at every look.
UNKNOWN, GOOD, BAD = Status.UNKNOWN, Status.GOOD, Status.BAD


class VerdictKind(StrEnum):
    """The outcome of a watch."""

    HEALTHY = "healthy"
    BREACH = "breach"
    BLIND = "blind"


class Comparand(Frozen):
    """Both arms at one look, or averaged over a burn (weighted by events where they are known).

    Values are in the metric's unit, ``delta`` in the comparison's; None is unknown.
    """

    delta: float | None = None
    release_value: float | None = None
    baseline_value: float | None = None
    release_n: float | None = None
    baseline_n: float | None = None


class Look(Comparand):
    """One look: both arms at ``time``, and what it found."""

    time: AwareDatetime
    status: Status


class BudgetEvaluation(Frozen):
    """One budget at ``evaluated_until``.

    :param late_looks: looks whose data came after they were folded without it; they stay unknown.
    :param suspended_looks: looks that counted for nothing, because the budget was suspended.
    :param suspended: the suspension under which the latest look was.
    """

    budget: str
    tier: Tier
    method: Method
    method_reason: str
    p_value: float | None = None
    look: Look | None
    burn: timedelta
    remaining: timedelta
    looks: int
    unknown_looks: int
    late_looks: int = 0
    suspended_looks: int = 0
    suspended: Suspension | None = None


class Breach(Frozen):
    """A budget that is used up.

    :param started_at: time of the first bad look of the burn; with evidence, since when that has been rising.
    :param breached_at: time of the look that used the budget up.
    :param p_value: valid whenever it is read; None for ``threshold``.
    :param delta: at ``breached_at``, or with evidence over the trailing duration; ``over_burn`` holds the
        averages that the sentence quotes.
    :param samples: the looks that made it (the last ones, when there were very many).
    """

    budget: str
    area: str
    metric: str
    comparison: Comparison
    slice: str | None = None
    tier: Tier
    severity: Severity
    method: Method
    p_value: float | None = None
    threshold: float
    max_duration: timedelta
    burn: timedelta
    started_at: AwareDatetime
    breached_at: AwareDatetime
    delta: float
    over_burn: Comparand
    sentence: str
    samples: tuple[Look, ...] = ()


class Blind(Frozen):
    """An area in which no budget had a known look for ``watch.blind_after``."""

    area: str
    since: AwareDatetime
    sentence: str


class Late(Frozen):
    """Samples that came, or changed, after their looks were decided. The verdict is without them.

    :param newest: the latest time that one of them belongs to.
    """

    samples: int
    newest: AwareDatetime


class Evaluation(Frozen):
    """The verdict of a watch and its reasons.

    :param late: samples that a live watch got too late; ``replay`` of the final data has them, and may differ
        from this.
    """

    verdict: VerdictKind
    final: bool
    release: str
    baseline: str
    spec_sha256: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    evaluated_until: AwareDatetime | None
    breaches: tuple[Breach, ...] = ()
    blind: Blind | None = None
    budgets: tuple[BudgetEvaluation, ...] = ()
    late: Late | None = None

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.verdict is VerdictKind.BLIND and self.blind is not None:
            return self.blind.sentence
        if self.breaches:
            return "; ".join(breach.sentence for breach in self.breaches)
        return f"every budget of {self.release} was kept"
