"""The health of standby: whether one is alive, and who watches each rollout."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.standbys import SeenStandby
from rollback_budget.ledger.views import Rollout
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.ledger.watched_by import WatchedBy, Who, watched_by
from rollback_budget.model.pace import tail_of

#: A standby that was not seen for this long is dead, or cut off from the ledger.
SEEN_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True)
class StandbyReport:
    """What there is to say.

    :param newest: the standby that was seen last; None when none ever was.
    :param rollouts: those that have to be watched, each with who does it.
    :param unreadable: those whose budget cannot be read here.
    """

    newest: SeenStandby | None
    rollouts: tuple[tuple[Rollout, WatchedBy], ...]
    unreadable: tuple[RolloutKey, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether a standby was seen within the last minute."""
        return self.newest is not None and self.newest.now - self.newest.seen_at <= SEEN_WITHIN

    @property
    def is_healthy(self) -> bool:
        """Whether a standby is alive, and every rollout has a watcher."""
        watched = all(who.who is not Who.NOBODY for _, who in self.rollouts)
        return self.is_alive and watched and not self.unreadable


def standby_report(ledger: Ledger, after: timedelta | None = None) -> StandbyReport:
    """Read it; raises LedgerError.

    :param after: how long a watch may give no sign of life; None for each rollout's default.
    """
    signs = {one.key: one for one in ledger.signs_of_life.expected()}
    rollouts = ledger.rollouts.many(signs.keys())
    readable = {rollout.key for rollout in rollouts}
    return StandbyReport(
        newest=ledger.standbys.newest(),
        rollouts=tuple((rollout, _watched_by(rollout, signs[rollout.key], after)) for rollout in rollouts),
        unreadable=tuple(key for key in signs if key not in readable),
    )


def _watched_by(rollout: Rollout, signs: WatchSigns, after: timedelta | None) -> WatchedBy:
    tail = tail_of(rollout.spec, signs.window_end)
    return watched_by(signs, rollout.spec.watch, after, tail=tail)
