"""What a rollback needs to know: the rollout, its frozen spec, and the traffic that it may have left."""

from __future__ import annotations

from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.base import Frozen
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.apply import TrafficChange
from rollback_budget.targets.rollback_terms import RollbackTerms


class RollbackOrder(Frozen):
    """Everything that moves a rollout's traffic back; as JSON it outlives a process.

    :param spec: names the target.
    """

    rollout: RolloutKey
    spec: RolloutSpec
    terms: RollbackTerms = RollbackTerms()

    def change(self) -> TrafficChange:
        """Return the change of traffic: everything for the baseline."""
        assert self.spec.target is not None
        return TrafficChange(
            shares=rolled_back(self.spec),
            before=self.terms.before,
            idempotency_key=rollback_key(self.rollout),
            deadline=self.spec.target.deadline,
        )


def rollback_key(rollout: RolloutKey) -> str:
    """Return the one idempotency key of a rollout's rollback."""
    return f"{rollout}/rollback"


def rolled_back(spec: RolloutSpec) -> dict[str, float]:
    """Return the shares that a rollback leaves, by version."""
    return {spec.release: 0.0, spec.baseline: 1.0}
