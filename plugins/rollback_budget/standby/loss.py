"""Losing a watch: no sign of life for too long, whatever the clocks of the hosts say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from rollback_budget.clock import Elapsed
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.ledger.watched_by import is_seen_to_its_end, loss_after
from rollback_budget.model.watch_settings import Watch

#: Clocks of two hosts may differ by this much without a watch being taken for lost, or found late.
MOST_SKEW = timedelta(minutes=2)
#: A watch that looks long dead is observed for this long: it may only have been cut off from the ledger.
SHORTEST_OBSERVATION = timedelta(seconds=45)
#: A ledger that was away for longer kept every watch from giving a sign of life.
SHORT_OUTAGE_S = 30.0
#: Airflow gets this much longer to end a rollout whose window it has watched to its end.
ENDING = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Loss:
    """A rollout that nobody watches, or whose rollback nobody verifies.

    :param since: the newest sign of life; of a rollback, when it was decided.
    :param of_rollback: whether it is rolled back, and only that is left to be verified.
    """

    key: RolloutKey
    since: datetime
    of_rollback: bool = False


class LossDetector:
    """Notices which watches are lost, from what the ledger shows again and again.

    A sign of life carries the time of the host that gave it. So what counts is how long none has come, by the
    clock of this process; what it says against the ledger's clock counts only beyond :data:`MOST_SKEW`, for
    watches that were lost before this process began.

    :param after: how long a watch may give no sign of life; None for the default of each rollout.
    :param elapsed: a monotonic clock, seconds.
    """

    def __init__(self, after: timedelta | None = None, elapsed: Elapsed = time.monotonic) -> None:
        self._after = after
        self._elapsed = elapsed
        self._seen: dict[RolloutKey, tuple[tuple[datetime, bool], float]] = {}

    def observe(
        self,
        signs: Iterable[WatchSigns],
        watches: Mapping[RolloutKey, Watch],
        *,
        at_once: bool = False,
        tails: Mapping[RolloutKey, timedelta] = MappingProxyType({}),
    ) -> list[Loss]:
        """Return the losses; rollouts that are not shown any more are forgotten.

        :param watches: how each is watched; one that is missing is left out.
        :param at_once: do not observe first, and go by the ledger's clock alone.
        :param tails: how long after their windows slow metrics are still waited for; nothing where missing.
        """
        at, seen, losses = self._elapsed(), {}, []
        for one in signs:
            watch = watches.get(one.key)
            if watch is None:
                continue
            loss = self._loss_of(one, watch)
            sign = (loss.since, loss.of_rollback)
            known = self._seen.get(one.key)
            seen[one.key] = known = known if known is not None and known[0] == sign else (sign, at)
            observed = timedelta(seconds=at - known[1])
            tail = tails.get(one.key, timedelta(0))
            if self._is_lost(one, loss, watch, observed, tail, at_once=at_once):
                losses.append(loss)
        self._seen = seen
        return losses

    def excuse(self, outage_s: float) -> None:
        """Do not count a time in which the ledger was away: the watches may have been cut off from it, too.

        After more than :data:`SHORT_OUTAGE_S` everything is observed anew.
        """
        if outage_s > SHORT_OUTAGE_S:
            self._seen = {}
            return
        at = self._elapsed()
        self._seen = {key: (sign, min(since + outage_s, at)) for key, (sign, since) in self._seen.items()}

    def _is_lost(
        self,
        signs: WatchSigns,
        loss: Loss,
        watch: Watch,
        observed: timedelta,
        tail: timedelta,
        *,
        at_once: bool,
    ) -> bool:
        after = loss_after(watch, self._after)
        settle = timedelta(0) if loss.of_rollback else watch.settle
        age = signs.now - loss.since - settle
        if at_once:
            return age >= after
        wait = after
        if loss.of_rollback and not signs.is_ours:
            # A team's own operator gives no sign of life while it is at work.
            wait += ENDING
        if is_seen_to_its_end(signs, watch, tail):
            wait += ENDING
        elif not signs.has_looked and not loss.of_rollback:
            # The first look comes no sooner.
            wait += settle
        if observed >= wait:
            return True
        return age >= wait + MOST_SKEW and observed >= min(after, SHORTEST_OBSERVATION)

    def _loss_of(self, signs: WatchSigns, watch: Watch) -> Loss:
        """Return what would be lost; a sign of life after the final decision is one of its tasks."""
        newest = signs.newest
        if signs.final is not FinalDecision.ROLLED_BACK or signs.final_at is None:
            return Loss(signs.key, newest)
        if signs.final_at - newest > watch.settle + loss_after(watch, self._after):
            # The watch was lost by then: Airflow did not decide it, and none of its tasks is on the way.
            return Loss(signs.key, newest, of_rollback=True)
        # Its task gives signs of life while it proves the rollback.
        return Loss(signs.key, max(signs.final_at, signs.heartbeat_at or signs.final_at), of_rollback=True)
