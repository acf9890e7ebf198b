"""The state of one budget, from look to look."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from enum import Enum
from math import ceil, log
from typing import NamedTuple, Self

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.comparison import Observation, View, fewest_events
from rollback_budget.engine.evaluation import UNKNOWN, Breach, BudgetEvaluation, Status
from rollback_budget.engine.frame import Frame
from rollback_budget.engine.increase import comparator_of
from rollback_budget.engine.judge_change import JudgeHistory
from rollback_budget.engine.late_data import LateLook, arms_of
from rollback_budget.engine.messages import (
    BreachEvidence,
    breach_sentence,
    no_look_sentence,
    not_judged_sentence,
)
from rollback_budget.engine.method import CountingPeriod, select_method
from rollback_budget.engine.stuck_series import NO_STREAKS, StuckSeries
from rollback_budget.engine.suspension import NOT_SUSPENDED, Suspension, SuspensionIntervals
from rollback_budget.engine.time_us import datetime_to_us, us_to_datetime
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.method_plan import alpha_of
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec

#: How many of its latest looks without data a budget remembers, to count those whose data comes late.
MAX_LOOKS_WITHOUT_DATA = 256


class OnBreach(Enum):
    """What a breach of one budget does to the watch."""

    END = "the watch ends"
    LIST_ONCE = "the first one is listed, and the watch goes on"
    START_OVER = "it is listed, and the budget starts over"
    IGNORE = "nothing"


class _Invalid(NamedTuple):
    """The looks whose values could not be, and what was said of the latest one, which was at ``at``."""

    looks: int = 0
    said: str | None = None
    at: int | None = None


class BudgetState:
    """Folds the looks of one budget.

    With more than 30 attributes Python keeps a table of their names with every object: twice the memory.

    :param watch_from: from where the watch counts, in microseconds.
    :param budget_from: from where this budget counts: later after an override.
    :param first_look: time of the first look that may count, in microseconds.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        budget: Budget,
        *,
        watch_from: int,
        budget_from: int,
        first_look: int,
        on_breach: OnBreach,
    ) -> None:
        self.budget = budget
        self.breaches: tuple[Breach, ...] = ()
        self.ends_watch = False
        #: The unknown looks of the latest chunk, by their place in the frame.
        self.unknown: tuple[int, ...] = ()
        #: The suspended looks of the latest chunk, likewise.
        self.suspended: tuple[int, ...] = ()
        self._spec = spec
        self._series = budget.series
        self._watch_from = watch_from
        self._budget_from = budget_from
        self._first_look = first_look
        self._on_breach = on_breach
        self._last: Observation | None = None
        self._looks = 0
        self._unknown_looks = 0
        self._without_data: tuple[int, ...] = ()
        #: Up to where looks belong to a period of counting that is over.
        self._counted_until = 0
        self._late_looks = 0
        self._suspended_looks = 0
        self._invalid = _Invalid()
        #: Time of the latest look that was known or suspended; before that, from where the budget counts.
        self._known_at = max(watch_from, budget_from)
        self._was_known = False
        self._stuck, self._streaks = StuckSeries(budget, spec), NO_STREAKS
        self._judges = JudgeHistory(self._known_at)
        self._suspension: Suspension | None = None
        self.suspend(())
        self._start_over()

    def suspend(self, suspensions: Sequence[Suspension]) -> None:
        """Replace the suspensions (those of other budgets are ignored) for the looks still to be folded."""
        own = [one for one in suspensions if one.covers(self.budget)]
        lag = pace_of(self._spec, self.budget.metric).lag
        self._intervals = SuspensionIntervals(own, lag) if own else NOT_SUSPENDED

    def is_suspended_at(self, time: int) -> bool:
        """Whether a look at ``time`` would be suspended, in microseconds."""
        return self._intervals.at([time], 0, 1)[0] is not None

    @property
    def status(self) -> Status | Suspension | None:
        """What the latest look found, or what it was suspended by; None before the first."""
        return None if self._last is None else self._suspension or self._last.status

    @property
    def why_unknown(self) -> str | None:
        """Why the latest look is unknown although something came; None where nothing did, or it is known."""
        last = self._last
        if last is None or last.status is not UNKNOWN:
            return None
        if self._invalid.at == last.time:
            return self._invalid.said
        metric, is_sum = self.budget.metric, self.budget.comparison is Comparison.INCREASE
        if is_sum or last.release != last.release or last.baseline != last.baseline:
            return None
        if last.least:
            return f"{metric} lies beyond the largest bound of its histogram, and how far is not known"
        fewest, came = fewest_events(self.budget), min(last.release_n, last.baseline_n)
        if came >= fewest or not self.budget.comparison.needs_baseline:
            return None
        return f"{metric} needs {fewest} events of each version a look, and {came:g} came"

    @property
    def known_at(self) -> datetime:
        """When it was last known or suspended; before that, from where it counts."""
        return us_to_datetime(self._known_at)

    def fold(self, frame: Frame, first: int, stop: int) -> int:
        """Fold the looks ``first`` to ``stop - 1``, or up to a breach that ends the watch.

        :return: the look after the last one that was folded.
        """
        self.unknown = self.suspended = ()
        first = bisect_left(frame.times, self._first_look, first, stop)
        while first < stop:
            suspension, change = self._intervals.at(frame.times, first, stop)
            change = self._follow_judge(frame, first, change)
            if (suspension is None) is not (self._suspension is None):
                self._start_over()
            self._suspension = suspension
            if suspension is not None:
                self._skip_suspended(frame, first, change)
                first = change
                continue
            end, breached = self._fold_until_breach(frame, first, change)
            if breached:
                self.breaches += (self._breach(),)
                if self._on_breach is OnBreach.END:
                    self.ends_watch = True
                    return end
                if self._on_breach is OnBreach.START_OVER:
                    self._start_over()
            first = end
        return stop

    @property
    def doubt(self) -> str | None:
        """What is to be known about how it was measured: a judge that changed."""
        change = self._judges.latest
        return None if change is None else change.sentence(self.budget.id)

    def count_late_looks(self, frame: Frame, stop: int) -> None:
        """Count the looks before ``stop`` that were folded without data and have it now.

        They stay unknown.
        """
        for look in range(stop):
            if frame.times[look] in self._without_data and not self._has_no_data(frame, look):
                self._without_data = tuple(time for time in self._without_data if time != frame.times[look])
                self._late_looks += 1

    def add_late(self, looks: Sequence[LateLook]) -> None:
        """Go on with the events that came late, where events are added up over the window."""
        if self.budget.comparison is not Comparison.INCREASE or self._last is None:
            return
        for look in looks:
            time = datetime_to_us(look.time)
            if look.series == self._series and self._counts_from(time) and time <= self._last.time:
                before = arms_of(self._spec, self.budget.metric, look.before)
                now = arms_of(self._spec, self.budget.metric, look.now, before)
                self._comparator.add_late(before, now)

    def snapshot(self) -> BudgetSnapshot | None:
        """Return the snapshot after the latest look; None before the first."""
        if self._last is None:
            return None
        deciding = self._method.deciding
        return BudgetSnapshot(
            budget=self.budget.id,
            look=self._last,
            burn=deciding.burn,
            p_value=deciding.p_value,
            looks=self._looks,
            unknown_looks=self._unknown_looks,
            suspension=self._suspension,
            why_unknown=self.why_unknown,
        )

    def not_judged(self, blind_after: int, *, is_final: bool, is_over: bool) -> str | None:
        """Say that nothing can be said of this budget, where it was unknown for too long; else None.

        :param blind_after: how long that is, in microseconds.
        :param is_final: whether no further look counts: what was never known by then is not judged.
        :param is_over: whether the window is over: what has had no look by then is not judged, nor what
            changing judges scored.
        """
        if self._last is None:
            was_waited_for = is_over and self._budget_from <= self._watch_from
            return no_look_sentence(self.budget) if was_waited_for else None
        never = is_final and not self._was_known
        if self._last.time - self._known_at < blind_after and not never:
            return self._judges.why_not_judged(self.budget, self._last.time) if is_over else None
        since, now = us_to_datetime(self._known_at), us_to_datetime(self._last.time)
        return not_judged_sentence(self.budget, since, now, self.why_unknown)

    def evaluation(self, not_judged: str | None = None) -> BudgetEvaluation:
        """Return the evaluation after the latest look."""
        burn = timedelta(microseconds=self._method.deciding.burn)
        return BudgetEvaluation(
            budget=self.budget.id,
            tier=self.budget.tier,
            method=self._method.name,
            method_reason=self._method.reason,
            p_value=self._method.deciding.p_value,
            look=self._last.look() if self._last is not None else None,
            burn=burn,
            remaining=max(self.budget.max_duration - burn, timedelta(0)),
            looks=self._looks,
            unknown_looks=self._unknown_looks,
            late_looks=self._late_looks,
            suspended_looks=self._suspended_looks,
            suspended=self._suspension,
            invalid_looks=self._invalid.looks,
            invalid=self._invalid.said,
            not_judged=not_judged,
            evidence_in=self._evidence_in(burn),
            doubt=self.doubt,
        )

    def _evidence_in(self, burn: timedelta) -> timedelta | None:
        """Return how much longer the evidence of a used-up budget needs, if it goes on to grow as it did."""
        p_value = self._method.deciding.p_value
        if p_value is None or not burn or burn < self.budget.max_duration or not 0.0 < p_value < 1.0:
            return None
        lacking = log(p_value / alpha_of(self._spec)) / -log(p_value)
        minutes = max(lacking, 0.0) * (burn / timedelta(minutes=1))
        within = minutes <= self._spec.window / timedelta(minutes=1)
        return timedelta(minutes=ceil(minutes)) if within else None

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._method, clone._comparator = self._method.copy(), self._comparator.copy()
        return clone

    def _follow_judge(self, frame: Frame, first: int, stop: int) -> int:
        """Start over where look ``first`` has another judge; return before which one it changes."""
        judges = frame.judges.get(self._series)
        for look in range(first, stop) if judges else ():
            assert judges is not None
            judge = judges.get(frame.times[look])
            if judge is None or judge == self._judges.judge:
                continue
            if look > first and self._judges.judge is not None:
                return look
            if self._judges.judge is not None:
                self._start_over()
            before = self._judges.since if self._last is None else self._last.time
            self._judges = self._judges.changed(judge, at=frame.times[look], before=before)
        return stop

    def _fold_until_breach(self, frame: Frame, first: int, stop: int) -> tuple[int, bool]:
        stops_at_breach = self._on_breach is not OnBreach.IGNORE and not (
            self._on_breach is OnBreach.LIST_ONCE and self.breaches
        )
        came, before = frame.arms[self._series], self._streaks
        arms, stuck, streaks = self._stuck.look(before, came, frame.times, first, stop)
        view = self._comparator.view(arms, first, stop)
        breach = self._method.fold(view, frame.times[first:stop], stop_at_breach=stops_at_breach)
        count = stop - first if breach is None else breach + 1
        if breach is not None:
            *_, streaks = self._stuck.look(before, came, frame.times, first, first + count)
        self._streaks = streaks
        self._record(frame, view, first, count, stuck)
        return first + count, breach is not None

    def _skip_suspended(self, frame: Frame, first: int, stop: int) -> None:
        """Record suspended looks: they are shown, and count for nothing."""
        arms = frame.arms[self._series]
        *_, self._streaks = self._stuck.look(self._streaks, arms, frame.times, first, stop)
        view = self._comparator.view(arms, first, stop)
        self._record(frame, view, first, stop - first, {})
        self._known_at, self._was_known = max(self._known_at, frame.times[stop - 1]), True
        self.suspended += tuple(range(first, stop))
        self._suspended_looks += stop - first

    def _record(self, frame: Frame, view: View, first: int, count: int, stuck: Mapping[int, str]) -> None:
        self._comparator.advance(view, count)
        if UNKNOWN in view.statuses:
            unknown = tuple(
                first + offset for offset, status in enumerate(view.statuses[:count]) if status is UNKNOWN
            )
            self.unknown += unknown
            missed = tuple(frame.times[look] for look in unknown if self._has_no_data(frame, look))
            self._without_data = (self._without_data + missed)[-MAX_LOOKS_WITHOUT_DATA:]
            self._unknown_looks += view.statuses[:count].count(UNKNOWN)
            self._note_invalid(frame, unknown, stuck)
        known = next((look for look in range(count - 1, -1, -1) if view.statuses[look] is not UNKNOWN), None)
        if known is not None:
            self._known_at, self._was_known = max(self._known_at, frame.times[first + known]), True
        self._looks += count
        self._last = view.observation(count - 1, frame.times[first + count - 1])

    def _note_invalid(self, frame: Frame, looks: Iterable[int], stuck: Mapping[int, str]) -> None:
        invalid = frame.invalid.get(self._series, {})
        other_bounds = frame.other_bounds.get(self._series, {})
        for look in looks if invalid or other_bounds or stuck else ():
            time = frame.times[look]
            counted = self._invalid.looks + (time in invalid or look in stuck)
            said = invalid.get(time) or stuck.get(look) or other_bounds.get(time)
            self._invalid = self._invalid._replace(looks=counted)
            if said is not None:
                self._invalid = _Invalid(counted, said, time)

    def _has_no_data(self, frame: Frame, look: int) -> bool:
        arms = frame.arms[self._series]
        return arms.release[look] != arms.release[look] or arms.baseline[look] != arms.baseline[look]

    def _counts_from(self, time: int) -> bool:
        """Whether a look at ``time`` belongs to what is being added up."""
        return time >= self._first_look and time > self._counted_until

    def _start_over(self) -> None:
        self._counted_until = 0 if self._last is None else self._last.time
        self._comparator = comparator_of(self.budget, self._spec)
        period = CountingPeriod(
            self._watch_from, self._budget_from if self._last is None else self._last.time
        )
        self._method = select_method(self.budget, self._spec, period)

    def _breach(self) -> Breach:
        budget, method, last = self.budget, self._method.deciding, self._last
        assert last is not None
        assert method.started is not None
        burn = timedelta(microseconds=method.burn)
        over_burn = self._comparator.over_burn(method.mean, last)
        evidence = None
        if method.over is not None and method.p_value is not None:
            evidence = BreachEvidence(
                over=timedelta(microseconds=method.over),
                p_value=method.p_value,
                since=us_to_datetime(method.started),
            )
        return Breach(
            budget=budget.id,
            area=budget.area,
            metric=budget.metric,
            comparison=budget.comparison,
            slice=budget.slice,
            tier=budget.tier,
            severity=budget.severity,
            method=self._method.name,
            p_value=method.p_value,
            threshold=budget.threshold,
            max_duration=budget.max_duration,
            burn=burn,
            started_at=us_to_datetime(method.started),
            breached_at=us_to_datetime(last.time),
            delta=last.delta if evidence is None or over_burn.delta is None else over_burn.delta,
            over_burn=over_burn,
            sentence=breach_sentence(self._spec, budget, over_burn, burn, evidence),
            samples=tuple(look.look() for look in method.bad_looks),
        )
