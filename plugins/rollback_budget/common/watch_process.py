"""What the watches of one process share: one cache of suspensions, of ended rollouts, and one look writer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from rollback_budget.common import config
from rollback_budget.exceptions import LedgerError
from rollback_budget.model.pace import Pace, pace_of, paces_of
from rollback_budget.watch.finished_rollouts import FinishedRollouts
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.suspension_cache import SuspensionCache

if TYPE_CHECKING:
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import LoggedSuspension
    from rollback_budget.model.spec import RolloutSpec


@cache
def process_finished_rollouts() -> FinishedRollouts:
    """Return the one that all watches of this process share."""

    def read(after: datetime) -> Collection[RolloutKey]:
        return config.open_ledger().rollouts.ended(after)

    return FinishedRollouts(read)


@cache
def process_suspension_cache() -> SuspensionCache:
    """Return the one that all watches of this process share."""

    def read(after: datetime) -> Sequence[LoggedSuspension]:
        return config.open_ledger().suspensions.ending_after(after=after)

    return SuspensionCache(read)


@cache
def process_look_writer() -> LookWriter:
    """Return the one that all watches of this process share."""

    return LookWriter(
        lambda: config.open_ledger().looks,
        log=logging.getLogger(LookWriter.__module__),
        open_heartbeats=lambda: config.open_ledger().watch_heartbeats,
    )


def seen_until(rollout: RolloutKey, window_start: datetime, spec: RolloutSpec) -> dict[Pace, datetime]:
    """Return up to where a rollout was seen in each pace of which an earlier poll missed the look after that.

    A pace that is not there missed none (the scheduler may have been away, and not the metrics). Empty when
    the ledger cannot say.

    :param window_start: up to where one was seen that never had a look.
    """
    paces = paces_of(spec)
    try:
        ledger = config.open_ledger()
        signs = ledger.signs_of_life.of(rollout)
        newest = ledger.looks.newest(rollout) if len(paces) > 1 else []
    except LedgerError:
        return {}
    if signs is None or signs.heartbeat_at is None:
        return {}
    looked_at: dict[Pace, datetime] = {}
    if len(paces) == 1 and signs.looked_at is not None:
        looked_at[paces[0]] = signs.looked_at - paces[0].shift
    metrics = {budget.id: budget.metric for budget in spec.budgets}
    for look in newest:
        pace = pace_of(spec, metrics[look.budget])
        looked_at[pace] = max(looked_at.get(pace, look.time), look.time)
    found = {}
    for pace in paces:
        seen = looked_at.get(pace, window_start)
        left_out = timedelta(0) if pace in looked_at else pace.leaves_out
        # A poll that comes before the next look has settled finds none, though all is well.
        if signs.heartbeat_at > seen + left_out + pace.every + pace.lag + spec.watch.poll:
            found[pace] = seen
    return found
