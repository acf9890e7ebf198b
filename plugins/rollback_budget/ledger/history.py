"""The rollout's story: everything that the ledger holds about it, in order of time."""

from __future__ import annotations

from datetime import UTC, datetime

from rollback_budget.ledger.reviews import Reviews
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import (
    CommanderDecision,
    Final,
    HistoryEvent,
    LoggedBreach,
    LoggedEvaluation,
    LoggedSuspension,
    RecordedOverride,
    Review,
    RollbackRecord,
    SentNotification,
    StageRecord,
)


class RolloutHistory(Reviews):
    """What happened in a rollout. Every method raises LedgerError."""

    def history(self, key: RolloutKey) -> list[HistoryEvent]:
        """Return what happened in a rollout, in order of time."""
        rollout = self.rollout(key)
        rollback = self.rollback_of(key)
        events: list[HistoryEvent] = [
            *self.evaluations(key),
            *self.breaches(key),
            *self.stages(key),
            *self.reviews(key),
            *self.decisions(key),
            *self.overrides(key),
            *self.suspensions_of(key),
            *self.notifications(key),
        ]
        if rollback is not None:
            events.append(rollback)
        if rollout is not None and rollout.final is not None:
            events.append(rollout.final)
        return sorted(events, key=_time)


def _time(event: HistoryEvent) -> datetime:
    match event:
        case LoggedBreach():
            return event.breach.breached_at
        case LoggedSuspension():
            return event.suspension.since
        case Review():
            return event.opened_at
        case SentNotification():
            return event.sent_at or event.claimed_at
        case RollbackRecord():
            return event.requested_at or event.verified_at or datetime.max.replace(tzinfo=UTC)
        case LoggedEvaluation() | StageRecord() | CommanderDecision() | RecordedOverride() | Final():
            return event.at
