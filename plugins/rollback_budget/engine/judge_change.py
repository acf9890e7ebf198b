"""Judges: what scores a metric may change during a rollout, and then the comparison starts over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from rollback_budget.engine.time_us import duration_to_us, us_to_datetime
from rollback_budget.model.budget import Budget
from rollback_budget.model.duration import say_duration
from rollback_budget.text import counted

#: How a sentence begins that says of another judge; the numbers in it are names.
JUDGE_CHANGED = "the judge of"
#: How it is said that the versions of one look have two judges.
NOT_ONE_JUDGE = "not scored by one judge"


class JudgeChange(NamedTuple):
    """From one judge to another at a look, in microseconds."""

    at: int
    before: str
    now: str

    def sentence(self, budget: str) -> str:
        """Say it of the budget with this id."""
        return (
            f"{JUDGE_CHANGED} {budget} changed from {self.before} to {self.now} at"
            f" {us_to_datetime(self.at):%Y-%m-%d %H:%M} UTC: what it had scored before does not count any"
            " more"
        )


class JudgeHistory(NamedTuple):
    """Which judges scored the looks of one budget so far; all times in microseconds.

    :param since: from where the present one counts.
    :param judge: the present one; None before the first.
    :param changes: how often it changed.
    :param longest: how long the one that stayed longest stayed, of those that went.
    :param latest: the latest change; None before the first.
    """

    since: int
    judge: str | None = None
    changes: int = 0
    longest: int = 0
    latest: JudgeChange | None = None

    def changed(self, to: str, *, at: int, before: int) -> JudgeHistory:
        """Return it with another judge from the look ``at`` on.

        :param before: time of the look before that.
        """
        if self.judge is None:
            return self._replace(judge=to)
        change = JudgeChange(at, self.judge, to)
        return JudgeHistory(before, to, self.changes + 1, max(self.longest, before - self.since), change)

    def longest_until(self, until: int) -> int:
        """Return how long the one that stayed longest stayed, the present one up to the look ``until``."""
        return max(self.longest, until - self.since)

    def why_not_judged(self, budget: Budget, until: int) -> str | None:
        """Say that no judge stayed so long that the budget could have been used up; else None.

        :param until: time of the latest look.
        """
        longest = self.longest_until(until)
        if self.latest is None or longest >= duration_to_us(budget.max_duration):
            return None
        often, stayed = counted(str(self.changes), "times"), say_duration(timedelta(microseconds=longest))
        return (
            f"{budget.id} was not judged, its judge changed {often} and stayed for {stayed} at most, which"
            f" cannot use up {say_duration(budget.max_duration)}; last from {self.latest.before} to"
            f" {self.latest.now} at {us_to_datetime(self.latest.at):%Y-%m-%d %H:%M} UTC"
        )


class RecordedJudges(NamedTuple):
    """Which judges scored a record.

    :param changes: how often it was another one.
    :param longest: how long the one that stayed longest stayed.
    :param latest: the latest change; None without one.
    """

    changes: int = 0
    longest: timedelta = timedelta(0)
    latest: JudgeChange | None = None

    @property
    def take_turns(self) -> bool:
        """Whether it changed more than once: one change is a new judge, and may stay the only one."""
        return self.changes > 1

    def leave_time_for(self, duration: timedelta) -> bool:
        """Whether judges that go on as in the record leave so much time between two changes."""
        return not self.take_turns or self.longest >= duration


NO_JUDGES = RecordedJudges()


def recorded_judges(judges: Mapping[int, str], times: Sequence[int], step: int) -> RecordedJudges:
    """Return which judges scored the looks at ``times``, each ``step`` long; all in microseconds.

    :param judges: by time, where known.
    """
    if not times:
        return NO_JUDGES
    before = times[0] - step
    history = JudgeHistory(before)
    for time in times:
        judge = judges.get(time)
        if judge is not None and judge != history.judge:
            history = history.changed(judge, at=time, before=before)
        before = time
    longest = timedelta(microseconds=history.longest_until(times[-1]))
    return RecordedJudges(history.changes, longest, history.latest)
