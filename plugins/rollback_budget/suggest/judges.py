"""Whether one judge scored all of a record that is said to be without change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from rollback_budget.engine.frame import Frame
from rollback_budget.engine.judge_change import NOT_ONE_JUDGE
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.record import LEAST_RECORDED
from rollback_budget.text import joined, plural

#: So many judges are named.
_NAMED = 4


class Stretch(NamedTuple):
    """Looks in a row that one judge scored.

    :param begin: one step before the first of them.
    """

    judge: str
    begin: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long the judge stayed."""
        return self.end - self.begin


def judge_warnings(spec: RolloutSpec, frame: Frame, budget: Budget) -> list[str]:
    """Say where the judge of a budget changes in a record, and which looks two judges scored.

    Blocks of a record in which it changes are joined across the change: what is measured is then, in part,
    how the judges differ.
    """
    found = [*_mixed(frame.of(budget.series), budget)]
    stretches = stretches_of(spec, frame, budget)
    if len(stretches) > 1:
        found.append(_changes(stretches, budget))
    return found


def stretches_of(spec: RolloutSpec, frame: Frame, budget: Budget) -> list[Stretch]:
    """Return who scored the looks of a budget, in order; a look that does not say is its neighbours'."""
    every, own = pace_of(spec, budget.metric).every, frame.of(budget.series)
    judges = own.judges.get(budget.series, {})
    firsts: list[tuple[int, str]] = []
    for time in sorted(judges):
        if not firsts or judges[time] != firsts[-1][1]:
            firsts.append((time, judges[time]))
    begins = [us_to_datetime(time) - every for time, _ in firsts]
    ends = [*begins[1:], us_to_datetime(own.times[-1])] if firsts else []
    return [Stretch(name, begin, end) for (_, name), begin, end in zip(firsts, begins, ends, strict=True)]


def _changes(stretches: list[Stretch], budget: Budget) -> str:
    latest = stretches[-1]
    if len(stretches) == 2:
        what = (
            f"the judge of {budget.id} changed from {stretches[0].judge} to {latest.judge} at"
            f" {_minute(latest.begin)}"
        )
    else:
        times = [later.begin for _, later in pairwise(stretches)]
        what = (
            f"the judges of {budget.id} take turns, {_named(stretches)}: {len(times)} changes, the first at"
            f" {_minute(times[0])}, the latest to {latest.judge} at {_minute(times[-1])}"
        )
    return (
        f"{what}. Windows mix what they scored, so that this is no time without change, and its noise and its"
        f" false trips are not those of one judge: {_advice(stretches)}"
    )


def _advice(stretches: list[Stretch]) -> str:
    latest, longest = stretches[-1], max(stretches, key=lambda stretch: stretch.length)
    since = f"`--from {latest.begin:%Y-%m-%dT%H:%M:%SZ}`"
    if latest.length >= LEAST_RECORDED:
        return f"record from that time on, with {since}"
    if len(stretches) == 2:
        so_far = say_duration(latest.length)
        return f"record from that time on, with {since}, once it is a day or more (so far {so_far})"
    stayed = (
        f"{longest.judge} stayed longest, for {say_duration(longest.length)} from {_minute(longest.begin)}"
    )
    if longest.length >= LEAST_RECORDED:
        until = f"`--to {longest.end:%Y-%m-%dT%H:%M:%SZ}`"
        return f"{stayed}; record that with `--from {longest.begin:%Y-%m-%dT%H:%M:%SZ}` and {until}"
    return f"let one judge score a day or more, and record that with `--from` ({stayed})"


def _mixed(frame: Frame, budget: Budget) -> Iterator[str]:
    said = [
        why
        for _, why in sorted(frame.invalid.get(budget.series, {}).items())
        if why.startswith(NOT_ONE_JUDGE)
    ]
    if said:
        yield (
            f"{plural(len(said), 'look')} of {budget.id} {'is' if len(said) == 1 else 'are'} left out:"
            f" {said[0]}; let one judge score both versions"
        )


def _named(stretches: list[Stretch]) -> str:
    names = list(dict.fromkeys(stretch.judge for stretch in stretches))
    more = len(names) - _NAMED
    return joined([*names[:_NAMED], f"{more} more"] if more > 0 else names)


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
