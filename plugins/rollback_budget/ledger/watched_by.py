"""Who watches a rollout: Airflow, a standby, or nobody, by the signs of life in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.clock import grid_floor
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.model.watch_settings import Watch

#: A watch is lost after the larger of these without a sign of life, on top of ``settle``.
SHORTEST_LOSS = timedelta(minutes=3)
POLLS_OF_LOSS = 3
#: A watch gives a sign of life at every poll: whatever standby is told, it waits for two of them.
FEWEST_POLLS_OF_LOSS = 2


class Who(StrEnum):
    """Who watches a rollout; ``over`` when its window was watched to its end, and only the end is left."""

    AIRFLOW = "airflow"
    STANDBY = "standby"
    NOBODY = "nobody"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class WatchedBy:
    """Who watches a rollout.

    :param name: of the standby; None for the others.
    :param since: of nobody, the newest sign of life; of a standby, when it took over; else None.
    """

    who: Who
    name: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        return {
            Who.AIRFLOW: "Airflow",
            Who.STANDBY: f"standby {self.name}{since}",
            Who.NOBODY: f"nobody{since}",
            Who.OVER: "nobody has to, its window is over: Airflow ends it",
        }[self.who]


def loss_after(watch: Watch, after: timedelta | None = None) -> timedelta:
    """Return how long a watch without a sign of life is waited for, on top of ``settle``.

    :param after: what standby was given, two polls at least; None for the default, the larger of three polls
        and three minutes.
    """
    if after is None:
        return max(POLLS_OF_LOSS * watch.poll, SHORTEST_LOSS)
    return max(after, FEWEST_POLLS_OF_LOSS * watch.poll)


def watched_by(
    signs: WatchSigns, watch: Watch, after: timedelta | None = None, *, tail: timedelta = timedelta(0)
) -> WatchedBy:
    """Return who watches a rollout now.

    :param watch: how it is watched.
    :param after: as of :func:`loss_after`.
    :param tail: as of :func:`is_seen_to_its_end`.
    """
    lease = signs.lease
    if lease is not None and lease.is_valid and signs.newest <= lease.taken_at:
        return WatchedBy(Who.STANDBY, lease.name, lease.taken_at)
    since = signs.newest
    if signs.final is FinalDecision.ROLLED_BACK and signs.final_at is not None:
        since = max(since, signs.final_at)
    if signs.now - since <= watch.settle + loss_after(watch, after):
        return WatchedBy(Who.AIRFLOW)
    if is_seen_to_its_end(signs, watch, tail):
        return WatchedBy(Who.OVER)
    return WatchedBy(Who.NOBODY, since=since)


def is_seen_to_its_end(signs: WatchSigns, watch: Watch, tail: timedelta = timedelta(0)) -> bool:
    """Whether Airflow has watched the whole window and no question is open: only the end is left.

    :param tail: how long after the window the looks of a slow metric are still waited for
        (:func:`~rollback_budget.model.pace.tail_of`).
    """
    if signs.final is not None or signs.review_deadline is not None or signs.looked_at is None:
        return False
    return signs.looked_at >= grid_floor(signs.window_end, watch.step) + tail
