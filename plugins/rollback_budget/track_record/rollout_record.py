"""Rollout records: everything of one past rollout that its budgets are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.engine.evaluation import Blind, Breach
from rollback_budget.engine.suspension import Suspension
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision, RecordedOverride, RollbackRecord
from rollback_budget.model.budget import Method
from rollback_budget.model.choice import RULE, SILENCE
from rollback_budget.model.decision import Action
from rollback_budget.model.label import Label
from rollback_budget.model.pace import longest_shift, pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.track_record.known_label import KnownLabel

#: A rollout that has no final decision so long after its last look was due gets none: its run was stopped.
UNDECIDED_AFTER = timedelta(days=1)


class Ending(StrEnum):
    """How a rollout ended."""

    PROMOTED = "promoted"
    BY_RULE = "rolled_back_by_rule"
    BY_COMMANDER = "rolled_back_by_commander"
    BY_SILENCE = "rolled_back_by_silence"
    OPEN = "open"
    NO_DECISION = "no_decision"
    NOT_SHIPPED = "not_shipped"

    @property
    def is_rolled_back(self) -> bool:
        """Whether the traffic was moved back."""
        return self in (Ending.BY_RULE, Ending.BY_COMMANDER, Ending.BY_SILENCE)


@dataclass(frozen=True, slots=True)
class LookCounts:
    """How many looks a budget had; of a budget that was suspended at the time, none is counted."""

    looks: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """One rollout, as the ledger holds it.

    :param breaches: earliest first.
    :param overrides: earliest first.
    :param looks: by budget; empty when the ledger holds no look of it.
    """

    key: RolloutKey
    spec: RolloutSpec
    opened_at: datetime
    shipped_at: datetime | None = None
    window_end: datetime | None = None
    final: Final | None = None
    label: KnownLabel | None = None
    breaches: tuple[Breach, ...] = ()
    blind: tuple[Blind, ...] = ()
    overrides: tuple[RecordedOverride, ...] = ()
    suspensions: tuple[Suspension, ...] = ()
    rollback: RollbackRecord | None = None
    looks: Mapping[str, LookCounts] = field(default_factory=dict)

    def ending(self, as_of: datetime) -> Ending:
        """Return how it ended, as far as was known at ``as_of``."""
        if self.final is not None:
            if self.final.decision is FinalDecision.PROMOTED:
                return Ending.PROMOTED
            return {RULE: Ending.BY_RULE, SILENCE: Ending.BY_SILENCE}.get(self.final.by, Ending.BY_COMMANDER)
        if self.shipped_at is None:
            return Ending.OPEN if as_of <= self.opened_at + UNDECIDED_AFTER else Ending.NOT_SHIPPED
        assert self.window_end is not None
        last_look = self.window_end + longest_shift(self.spec)
        return Ending.OPEN if as_of <= last_look + UNDECIDED_AFTER else Ending.NO_DECISION

    def end(self, as_of: datetime) -> datetime:
        """Return until when it was watched, at most until ``as_of``."""
        ends = [as_of, self.window_end or as_of]
        return min(ends if self.final is None else [*ends, self.final.at])

    def tripped_by(self) -> dict[str, Breach]:
        """Return the breaches that led to the rollback, by budget: those that no later decision went past."""
        if self.final is None or self.final.decision is not FinalDecision.ROLLED_BACK:
            return {}
        tripped: dict[str, Breach] = {}
        for breach in self._stopping_breaches():
            overridden = any(
                breach.budget in override.budget_ids and breach.breached_at <= override.at
                for override in self.overrides
            )
            if not overridden:
                tripped.setdefault(breach.budget, breach)
        return tripped

    def warned(self) -> frozenset[str]:
        """Return the budgets that would have stopped the rollout, and not before it went bad."""
        return frozenset(
            breach.budget for breach in self._stopping_breaches() if not self.is_false_trip(breach)
        )

    def _stopping_breaches(self) -> list[Breach]:
        """Return the breaches that roll back or ask, and are not only recorded."""
        stopping = {
            budget.id
            for budget in self.spec.budgets
            if self.spec.decision.of(budget.tier).action is not Action.RECORD_ONLY
        }
        return [breach for breach in self.breaches if breach.budget in stopping]

    def is_false_trip(self, breach: Breach) -> bool:
        """Whether a rollback on ``breach`` was wrong: the rollout was good, or went bad only later."""
        label = self.label
        if label is None:
            return False
        return label.label is Label.GOOD or (label.onset is not None and breach.breached_at <= label.onset)

    def began(self, breach: Breach) -> datetime:
        """Return since when users were harmed, as far as ``breach`` tells: where its first bad look begins.

        By evidence, it is said where that look begins, and without evidence where it ends. What is counted
        by arrival came up to a lag later; before shipping nothing was harmed.
        """
        pace = pace_of(self.spec, breach.metric)
        look = pace.every if breach.method is Method.THRESHOLD else timedelta(0)
        began = breach.started_at - look - pace.leaves_out
        return began if self.shipped_at is None else max(began, self.shipped_at)

    def harm(self, breach: Breach | None) -> timedelta | None:
        """Return how long users were harmed before the rollback; None when that cannot be known.

        From the labelled onset, else from when the breach :meth:`began`, until the rollback was verified,
        else requested.
        """
        onset = None if self.label is None else self.label.onset
        since = onset or (None if breach is None else self.began(breach))
        until = None if self.rollback is None else self.rollback.verified_at or self.rollback.requested_at
        return None if since is None or until is None else max(until - since, timedelta(0))
