"""Stuck series: the same value and count look after look, as of an exporter that hangs."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from operator import eq
from typing import NamedTuple

from rollback_budget.engine.frame import Arms
from rollback_budget.engine.histogram import Histogram
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import say_duration
from rollback_budget.model.metric import MetricKind
from rollback_budget.model.spec import RolloutSpec

#: Fewer looks than this may be alike by chance.
FEWEST_LOOKS = 10
#: From so many looks on it pays to look for streaks first.
_MANY_LOOKS = 2 * FEWEST_LOOKS
#: So many requests are not as many in each look, where people send them.
MANY = 100
#: What is measured anew for every request; a gauge may well stand still, and so may a count of rare events.
_MEASURED = (MetricKind.QUANTILE, MetricKind.MEAN, MetricKind.PROPORTION)


class Streak(NamedTuple):
    """Looks of one version that are alike.

    :param since: time of the first of them, in microseconds.
    :param looks: how many there are.
    """

    value: float = nan
    n: float = nan
    since: int = 0
    looks: int = 0


#: Those of the release and of the baseline.
Streaks = tuple[Streak, Streak]
NO_STREAKS: Streaks = (Streak(), Streak())


class StuckSeries:
    """Says which looks of one budget are stuck; immutable, the streaks are its caller's."""

    __slots__ = ("_after", "_said", "_versions")

    def __init__(self, budget: Budget, spec: RolloutSpec) -> None:
        measured = spec.metric(budget.metric).kind in _MEASURED
        self._after = duration_to_us(spec.watch.stuck_after) if measured else None
        self._versions = (spec.release, spec.baseline)
        self._said = f"the same value and count for {say_duration(spec.watch.stuck_after)} and more"

    def look(
        self, streaks: Streaks, arms: Arms, times: list[int], first: int, stop: int
    ) -> tuple[Arms, dict[int, str], Streaks]:
        """Look at the looks ``first`` to ``stop - 1``.

        :param streaks: up to there.
        :return: the arms with NaN for what is stuck, what is said of those looks, by place, and the streaks.
        """
        if self._after is None:
            return arms, {}, streaks
        of_release, release = self._follow(
            streaks[0], arms.release, arms.release_n, arms.release_buckets, times, first, stop
        )
        of_baseline, baseline = self._follow(
            streaks[1], arms.baseline, arms.baseline_n, arms.baseline_buckets, times, first, stop
        )
        if not of_release and not of_baseline:
            return arms, {}, (release, baseline)
        said: dict[int, str] = {}
        for version, looks in zip(self._versions, (of_release, of_baseline), strict=True):
            said |= dict.fromkeys(looks, f"{version}: {self._said}")
        masked = arms.changed(
            release=[nan if look in of_release else value for look, value in enumerate(arms.release)],
            baseline=[nan if look in of_baseline else value for look, value in enumerate(arms.baseline)],
        )
        return masked, said, (release, baseline)

    def _follow(
        self,
        streak: Streak,
        values: list[float],
        counts: list[float],
        buckets: Sequence[Histogram | None],
        times: list[int],
        first: int,
        stop: int,
    ) -> tuple[set[int], Streak]:
        if stop - first >= _MANY_LOOKS:
            passed = _without_streak(streak, values, counts, times, first, stop)
            if passed is not None:
                return set(), passed
        stuck = set()
        assert self._after is not None
        for look in range(first, stop):
            value, n = values[look], counts[look]
            if value != value:
                continue
            if value != streak.value or (n != streak.n and (n == n or streak.n == streak.n)):
                streak = Streak(value, n, times[look], 1)
                continue
            streak = streak._replace(looks=streak.looks + 1)
            is_long = streak.looks >= FEWEST_LOOKS and times[look] - streak.since >= self._after
            if is_long and _would_move(value, n, of_buckets=bool(buckets and buckets[look])):
                stuck.add(look)
        return stuck, streak


def _without_streak(
    streak: Streak, values: list[float], counts: list[float], times: list[int], first: int, stop: int
) -> Streak | None:
    """Return the streak behind looks of which no :data:`FEWEST_LOOKS` in a row are alike; else None.

    Nearly all are so, and this is many times faster than to follow them one by one.
    """
    part = values[first:stop]
    total = sum(part)
    alike = bytes(map(eq, part, part[1:]))
    if total != total or b"\x01" * (FEWEST_LOOKS - 1) in alike:
        return None
    if part[0] == streak.value and streak.looks + alike.index(0) + 1 >= FEWEST_LOOKS:
        return None
    begin = stop - 1
    while alike[begin - 1 - first] and _is_same_count(counts[begin - 1], counts[stop - 1]):
        begin -= 1
    return Streak(values[begin], counts[begin], times[begin], stop - begin)


def _is_same_count(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


def _would_move(value: float, n: float, *, of_buckets: bool) -> bool:
    """Whether other requests would have given another value and count.

    All or nothing may go on, and a few requests may fall into one bucket look after look, unless so many that
    their number would not be the same each time.
    """
    return n >= MANY or (value not in (0.0, 1.0) and not of_buckets)
