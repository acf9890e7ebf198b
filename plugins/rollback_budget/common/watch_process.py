"""What the watches of one process share: one cache of suspensions, of ended rollouts, and one look writer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from rollback_budget.common import config
from rollback_budget.exceptions import LedgerError
from rollback_budget.watch.finished_rollouts import FinishedRollouts
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.suspension_cache import SuspensionCache

if TYPE_CHECKING:
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import LoggedSuspension
    from rollback_budget.model.watch_settings import Watch


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


def seen_until(rollout: RolloutKey, window_start: datetime, watch: Watch) -> datetime | None:
    """Return up to where a rollout was seen, when an earlier poll of its watch missed the look after that.

    None before that (the scheduler may have been away, and not the metrics), and when the ledger cannot say.

    :param window_start: up to where one was seen that never had a look.
    """
    try:
        signs = config.open_ledger().signs_of_life.of(rollout)
    except LedgerError:
        return None
    if signs is None or signs.heartbeat_at is None:
        return None
    seen = signs.looked_at or window_start
    # A poll that comes before the next look has settled finds none, though all is well.
    due = seen + watch.step + watch.settle + watch.poll
    return seen if signs.heartbeat_at > due else None
