"""How the traffic of a rollout may be moved back, where that is ours to do."""

from __future__ import annotations

from collections.abc import Mapping

from rollback_budget.exceptions import TargetError
from rollback_budget.model.base import Frozen
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.base import target_class
from rollback_budget.targets.shares import shares_left


class RollbackTerms(Frozen):
    """How the traffic of a rollout may be moved back by us: its budget names a target that we can write.

    :param before: every state of the traffic that the rollout may have left behind; any other one is a newer
        change by another client, and is kept. None when not known: then any state may be changed.
    """

    before: tuple[dict[str, float], ...] | None = None


def rollback_terms(spec: RolloutSpec, shipped: Mapping[str, float] | None) -> RollbackTerms | None:
    """Return the terms; None when the budget names no target that we can write.

    :param shipped: the shares that the release was shipped with; None when not known.
    """
    if spec.target is None:
        return None
    try:
        if any(True for _ in target_class(spec.target.type).problems(spec)):
            return None
    except TargetError:
        return None
    left = shares_left(spec, shipped)
    return RollbackTerms(before=None if left is None else tuple(dict(shares) for shares in left))
