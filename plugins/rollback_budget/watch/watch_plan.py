"""The plan of a watch: the frozen spec and the window, as JSON that outlives a process."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime

from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.base import Frozen
from rollback_budget.model.pace import longest_shift
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.rollback.order import RollbackOrder
from rollback_budget.targets.rollback_terms import RollbackTerms

#: Upstream race: a task resumed before the scheduler has noted its deferral fails that try.
HOLD_AFTER_DEFER = timedelta(seconds=10)


class Role(StrEnum):
    """A watch looks at every budget; a guard only at tier A, while the commander thinks."""

    WATCH = "watch"
    GUARD = "guard"


class Override(Frozen):
    """A commander's "go on": from ``at`` on, ``budgets`` burn anew (none: the blind clock starts anew)."""

    at: AwareDatetime
    budgets: tuple[str, ...] = ()


class WatchPlan(Frozen):
    """Everything that a watch needs besides the metrics themselves.

    :param rollout: the rollout's key in the ledger; None for a sensor that stands alone.
    :param terms: how we may move the traffic back; None where that is not ours to do, and in the plans of
        older versions.
    :param until: when a guard stops although nothing happened; None for a watch.
    :param round_: counted from 1.
    """

    spec: RolloutSpec
    window_start: AwareDatetime
    window_end: AwareDatetime
    round_: int = 1
    role: Role = Role.WATCH
    overrides: tuple[Override, ...] = ()
    until: AwareDatetime | None = None
    rollout: RolloutKey | None = None
    terms: RollbackTerms | None = None

    @property
    def order(self) -> RollbackOrder | None:
        """What a rollback from here needs; None when it is not ours to send."""
        if self.rollout is None or self.terms is None:
            return None
        return RollbackOrder(rollout=self.rollout, spec=self.spec, terms=self.terms)

    @property
    def latest_end(self) -> datetime:
        """When this watch has nothing more to see, data delay included."""
        watch = self.spec.watch
        end = self.window_end + longest_shift(self.spec) if self.until is None else self.until
        return end + watch.settle + watch.poll
