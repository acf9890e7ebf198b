"""The history of a rollout: everything that the ledger holds about it, in order of time."""

from __future__ import annotations

from datetime import UTC, datetime

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import (
    CommanderDecision,
    Final,
    HistoryEvent,
    LoggedBreach,
    LoggedEvaluation,
    LoggedLabel,
    LoggedSuspension,
    RecordedOverride,
    Review,
    RollbackRecord,
    SentNotification,
    StageRecord,
    StandbyWatch,
)


def history_of(ledger: Ledger, key: RolloutKey) -> list[HistoryEvent]:
    """Return what happened in a rollout, in order of time. Raises LedgerError."""
    rollout = ledger.rollouts.get(key)
    rollback = ledger.rollbacks.of(key)
    events: list[HistoryEvent] = [
        *ledger.evaluations.of(key),
        *ledger.breaches.of(key),
        *ledger.stages.of(key),
        *ledger.reviews.of(key),
        *ledger.decisions.of(key),
        *ledger.overrides.of(key),
        *ledger.suspensions.of(key),
        *ledger.notifications.of(key),
        *ledger.labels.of(key),
        *(StandbyWatch(since, until) for since, until in ledger.looks.standby_periods(key)),
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
        case StandbyWatch():
            return event.since
        case SentNotification():
            return event.sent_at or event.claimed_at
        case RollbackRecord():
            return event.requested_at or event.verified_at or datetime.max.replace(tzinfo=UTC)
        case (
            LoggedEvaluation()
            | StageRecord()
            | CommanderDecision()
            | RecordedOverride()
            | Final()
            | LoggedLabel()
        ):
            return event.at
