"""What a breach leads to, by tier, and what silence means."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Tier


class Action(StrEnum):
    """What a breach of a tier leads to."""

    AUTO_ROLLBACK = "auto_rollback"
    INCIDENT_COMMANDER_DECISION = "incident_commander_decision"
    RECORD_ONLY = "record_only"


class OnTimeout(StrEnum):
    """What silence of the commander means."""

    ROLLBACK = "rollback"
    CONTINUE = "continue"


class TierDecision(Frozen):
    """What a breach of one tier leads to, and what silence means."""

    action: Action
    within: timedelta = timedelta(minutes=15)
    on_timeout: OnTimeout = OnTimeout.ROLLBACK
    max_overrides: int = 2


class Decision(Frozen):
    """The agreed answer to a breach, by tier."""

    tier_a_breach: TierDecision = TierDecision(action=Action.AUTO_ROLLBACK)
    tier_b_breach: TierDecision = TierDecision(action=Action.INCIDENT_COMMANDER_DECISION)
    tier_c_breach: TierDecision = TierDecision(action=Action.RECORD_ONLY)

    def of(self, tier: Tier) -> TierDecision:
        """Return what a breach of ``tier`` leads to."""
        return {Tier.A: self.tier_a_breach, Tier.B: self.tier_b_breach, Tier.C: self.tier_c_breach}[tier]
