"""Status: where a rollout is now, as far as the ledger alone can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.engine.evaluation import Evaluation, Status
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, LoggedLook, LoggedSuspension, Review, Rollout
from rollback_budget.ledger.watched_by import WatchedBy, watched_by
from rollback_budget.model.pace import longest_shift, tail_of
from rollback_budget.targets.apply import Outcome


class Phase(StrEnum):
    """What a rollout is doing."""

    OPENED = "opened"
    WATCHING = "watching"
    REVIEW = "review"
    ENDING = "ending"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"


@dataclass(frozen=True, slots=True)
class Gauge:
    """Where one budget is, by the newest look at it that the ledger holds.

    :param at: the time of that look.
    :param delta: in the unit of the budget's comparison; None is unknown.
    """

    at: datetime
    status: Status
    delta: float | None
    burn: timedelta


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """Where one rollout is.

    :param round: counted from 1.
    :param review: the one that is open; None in every other phase.
    :param gauges: by budget; one without a look has none.
    :param outcome: of the rollback; None while it is under way, and without one.
    :param suspensions: those that hold now.
    :param watched_by: who watches it; None when nothing has to be watched.
    :param doubts: what is doubtful about the verdict that the open review is about.
    """

    rollout: Rollout
    phase: Phase
    round: int
    review: Review | None
    gauges: Mapping[str, Gauge]
    outcome: Outcome | None
    suspensions: tuple[LoggedSuspension, ...]
    watched_by: WatchedBy | None = None
    doubts: tuple[str, ...] = ()


def status_of(ledger: Ledger, rollout: Rollout, now: datetime) -> RolloutStatus:
    """Read where ``rollout`` stands. Raises LedgerError."""
    answered = {decision.round for decision in ledger.decisions.of(rollout.key)}
    went_on = {override.round for override in ledger.overrides.of(rollout.key) if override.round}
    reviews = ledger.reviews.of(rollout.key)
    waiting = [review for review in reviews if review.round not in answered]
    rollback = ledger.rollbacks.of(rollout.key)
    evaluations = ledger.evaluations.of(rollout.key)
    latest = evaluations[-1].evaluation if evaluations else None
    outcome = None if rollback is None else rollback.outcome
    review = waiting[-1] if waiting and rollout.final is None else None
    return RolloutStatus(
        rollout=rollout,
        phase=_phase(rollout, review, outcome, now),
        round=max([1, *(round_ + 1 for round_ in went_on), *(review.round for review in reviews)]),
        review=review,
        gauges=_gauges(ledger.looks.newest(rollout.key), latest),
        outcome=outcome,
        suspensions=tuple(one for one in ledger.suspensions.of(rollout.key) if one.is_active(now)),
        watched_by=_watched_by(ledger, rollout, outcome),
        doubts=() if review is None or latest is None else latest.doubts_of_verdict,
    )


def _watched_by(ledger: Ledger, rollout: Rollout, outcome: Outcome | None) -> WatchedBy | None:
    final = rollout.final
    if final is not None and (final.decision is FinalDecision.PROMOTED or outcome is not None):
        return None
    signs = ledger.signs_of_life.of(rollout.key)
    if signs is None:
        return None
    return watched_by(signs, rollout.spec.watch, tail=tail_of(rollout.spec, signs.window_end))


def _gauges(looks: Sequence[LoggedLook], evaluation: Evaluation | None) -> dict[str, Gauge]:
    """Go by the looks, which come while a watch is on, and by the latest verdict where it saw more."""
    gauges = {look.budget: Gauge(look.time, look.status, look.delta, look.burn) for look in looks}
    for budget in () if evaluation is None else evaluation.budgets:
        known = gauges.get(budget.budget)
        if budget.look is not None and (known is None or budget.look.time >= known.at):
            look = budget.look
            gauges[budget.budget] = Gauge(look.time, look.status, look.delta, budget.burn)
    return gauges


def _phase(rollout: Rollout, review: Review | None, outcome: Outcome | None, now: datetime) -> Phase:
    if rollout.final is not None:
        if rollout.final.decision is FinalDecision.PROMOTED:
            return Phase.PROMOTED
        return Phase.ROLLING_BACK if outcome is None else Phase.ROLLED_BACK
    if rollout.shipped_at is None or rollout.window_end is None:
        return Phase.OPENED
    if review is not None:
        return Phase.REVIEW
    return Phase.WATCHING if now < rollout.window_end + longest_shift(rollout.spec) else Phase.ENDING
