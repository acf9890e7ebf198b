"""The engine's result: looks, breaches and the verdict, as JSON that round-trips."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import AwareDatetime

from rollback_budget.engine.suspension import Suspension
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Comparison, Method, Severity, Tier
from rollback_budget.model.duration import say_duration


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

    :param release_is_least: whether the release's value lies beyond the largest bound of its histogram, and
        is more than ``release_value``.
    :param baseline_is_least: likewise.
    """

    delta: float | None = None
    release_value: float | None = None
    baseline_value: float | None = None
    release_n: float | None = None
    baseline_n: float | None = None
    release_is_least: bool = False
    baseline_is_least: bool = False


class Look(Comparand):
    """One look: both arms at ``time``, and what it found."""

    time: AwareDatetime
    status: Status


class BudgetEvaluation(Frozen):
    """One budget at ``evaluated_until``.

    :param late_looks: looks whose data came after they were folded without it; they stay unknown.
    :param suspended_looks: looks that counted for nothing, because the budget was suspended.
    :param suspended: the suspension under which the latest look was.
    :param invalid_looks: looks for which something came that cannot be a value; they are unknown.
    :param invalid: what came last that was none.
    :param not_judged: why nothing can be said of the budget: it has been unknown for too long.
    :param evidence_in: how much longer a used-up budget needs for its evidence, if that goes on to grow as it
        did while the budget burned; None where it does not grow, and where none is needed.
    :param doubt: what is doubtful about how it was measured; also among the evaluation's ``doubts``.
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
    invalid_looks: int = 0
    invalid: str | None = None
    not_judged: str | None = None
    evidence_in: timedelta | None = None
    doubt: str | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether all of its duration is used up; without a breach, the evidence does not suffice."""
        return self.burn > timedelta(0) and not self.remaining


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
    """An area in which no budget had a known look for ``watch.blind_after``, or budgets that were not judged.

    :param budgets: those that had none at the window's end; empty for a whole area.
    """

    area: str
    since: AwareDatetime
    sentence: str
    budgets: tuple[str, ...] = ()


class Late(Frozen):
    """Samples that came, or changed, after their looks were decided. The verdict is without them.

    :param newest: the latest time that one of them belongs to.
    """

    samples: int
    newest: AwareDatetime


class Evaluation(Frozen):
    """The verdict of a watch and its reasons.

    :param doubts: what is doubtful about the comparison, or about how a budget was measured; it decides
        nothing.
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
    doubts: tuple[str, ...] = ()

    @property
    def to_be_decided(self) -> tuple[str, ...]:
        """The budgets that a decision to go on is about; none where a whole area is blind."""
        if self.verdict is VerdictKind.BLIND:
            return () if self.blind is None else self.blind.budgets
        return tuple(breach.budget for breach in self.breaches)

    @property
    def doubts_of_verdict(self) -> tuple[str, ...]:
        """Those of ``doubts`` that concern the verdict.

        Those of a budget that is not breached do not concern a breach, and one that was not judged says why.
        """
        if self.verdict is VerdictKind.HEALTHY:
            beside = [budget for budget in self.budgets if budget.not_judged is not None]
        else:
            breached = {breach.budget for breach in self.breaches}
            beside = [budget for budget in self.budgets if budget.budget not in breached]
        left_out = {budget.doubt for budget in beside}
        return tuple(doubt for doubt in self.doubts if doubt not in left_out)

    @property
    def sentence(self) -> str:
        """The verdict in one line, with what is doubtful about it."""
        return "; ".join([self.finding, *self.doubts_of_verdict])

    @property
    def finding(self) -> str:
        """The verdict in one line, without its doubts."""
        breaches = [breach.sentence for breach in self.breaches]
        if self.verdict is VerdictKind.BLIND and self.blind is not None:
            return "; ".join([self.blind.sentence, *breaches])
        not_judged = [budget.not_judged for budget in self.budgets if budget.not_judged is not None]
        if breaches:
            return "; ".join([*breaches, *not_judged])
        every = "every other budget" if not_judged else "every budget"
        used_up = [
            f"{budget.budget} is exhausted, and the evidence insufficient{_evidence(budget)}"
            for budget in self.budgets
            if budget.is_used_up
        ]
        kept = [f"{every} of {self.release} was kept"] if len(not_judged) < len(self.budgets) else []
        return "; ".join([*kept, *not_judged, *used_up])


def _evidence(budget: BudgetEvaluation) -> str:
    if budget.p_value is None:
        return ""
    longer = "it does not grow at this traffic"
    if budget.evidence_in is not None:
        longer = f"about {say_duration(budget.evidence_in)} more at this traffic"
    return f" (p = {budget.p_value:.2g}, {longer})"
