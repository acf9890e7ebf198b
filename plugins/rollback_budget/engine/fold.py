"""The fold: looks in, verdict out; the same looks give the same verdict, however they arrive."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.budget_state import BudgetState, OnBreach
from rollback_budget.engine.evaluation import Blind, Evaluation, Status, VerdictKind
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.messages import blind_sentence
from rollback_budget.engine.no_data import AreaLastSeen
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import length, micros, moment
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.decision import Action
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind

#: Told after each look: its time, and where every budget stands that the look counted for.
OnLook = Callable[[int, tuple[BudgetSnapshot, ...]], None]

#: Looks folded at a time: bounds what is copied, and what is folded again after a breach.
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Window:
    """How long a release is watched; both ends aware."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise RollbackBudgetError("the window's start and end need a time zone; give UTC or an offset")
        if self.end < self.start:
            raise RollbackBudgetError(
                f"the window ends ({self.end.isoformat()}) before it starts ({self.start.isoformat()})"
            )


@dataclass(frozen=True, slots=True)
class Restart:
    """One budget starts over: its looks up to ``at`` no longer count. Without a budget, blindness does."""

    budget_id: str | None
    at: datetime


class Fold:
    """Folds frames of looks into an evaluation, and stops at the verdict.

    Its size does not depend on how much it has folded.

    :param restarts: decisions to go on, each of which starts a burn anew.
    :param tiers: whose breaches count; None for all.
    :param watch_blind: whether seeing nothing is a verdict, if the spec says so.
    :param keep_going: list every breach up to the window's end; a budget that breached starts over.
    :raises RollbackBudgetError: a budget asks for a method that is not there.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        window: Window,
        *,
        restarts: Sequence[Restart] = (),
        tiers: frozenset[Tier] | None = None,
        watch_blind: bool = True,
        keep_going: bool = False,
    ) -> None:
        self._spec = spec
        self._sha256 = spec.sha256
        self._window = window
        self._keep_going = keep_going
        self._step = length(spec.watch.step)
        self._blind_after = length(spec.watch.blind_after)
        self._end = micros(window.end)
        opening = micros(window.start) + length(spec.watch.grace)
        latest = {budget.id: opening for budget in spec.budgets}
        unseen_since = opening
        for restart in restarts:
            if restart.budget_id is None:
                unseen_since = max(unseen_since, micros(restart.at))
            elif restart.budget_id in latest:
                latest[restart.budget_id] = max(latest[restart.budget_id], micros(restart.at))
        self._tallies = [
            BudgetState(
                spec,
                budget,
                opening=opening,
                since=latest[budget.id],
                begins=max(opening + self._step, latest[budget.id] + 1),
                on_breach=_on_breach(spec, budget, tiers, keep_going=keep_going),
            )
            for budget in spec.budgets
        ]
        self._next_look = opening + self._step
        self._clocks = self._area_clocks(latest, unseen_since) if watch_blind else []
        self._until: int | None = None
        self._verdict: VerdictKind | None = None
        self._blind: Blind | None = None

    @property
    def evaluated_until(self) -> datetime | None:
        """Up to where looks are folded; at a verdict, its look."""
        return None if self._until is None else moment(self._until)

    def suspend(self, suspensions: Sequence[Suspension]) -> None:
        """Take these suspensions, and no others, for the looks that are still to be folded."""
        for tally in self._tallies:
            tally.suspend(suspensions)

    def fold(self, frame: Frame, on_look: OnLook | None = None) -> Evaluation | None:
        """Fold the looks of ``frame`` that are new; return the verdict once it is reached.

        :param on_look: told after each look; folding is several times slower with it.
        """
        if self._verdict is None:
            first = bisect_left(frame.times, self._next_look)
            for tally in self._tallies if first else ():
                tally.notice_late(frame, first)
            stop = bisect_right(frame.times, min(self._end, frame.end))
            while first < stop and self._verdict is None:
                first = self._fold_chunk(frame, first, min(first + (1 if on_look else CHUNK), stop))
                if on_look is not None:
                    time = frame.times[first - 1]
                    on_look(time, tuple(one for one in self.standings() if one.look.time == time))
            if self._verdict is None:
                self._go_on(min(frame.end, self._end))
        return self.evaluation() if self._is_final() else None

    def statuses(self) -> list[Status | Suspension | None]:
        """Return what the latest look of every budget found, or was suspended by; None for one without."""
        return [tally.status for tally in self._tallies]

    def standings(self) -> tuple[BudgetSnapshot, ...]:
        """Return where every budget stands that has had a look, in short."""
        standings = (tally.standing() for tally in self._tallies)
        return tuple(standing for standing in standings if standing is not None)

    def evaluation(self) -> Evaluation:
        """Return where every budget stands: the verdict, or what it would be if nothing more came."""
        breaches = sorted(
            (breach for tally in self._tallies for breach in tally.breaches),
            key=lambda breach: breach.breached_at,
        )
        if self._verdict is not None:
            verdict = self._verdict
        elif breaches:
            verdict = VerdictKind.BREACH
        else:
            verdict = VerdictKind.HEALTHY if self._blind is None else VerdictKind.BLIND
        return Evaluation(
            verdict=verdict,
            final=self._is_final(),
            release=self._spec.release,
            baseline=self._spec.baseline,
            spec_sha256=self._sha256,
            window_start=self._window.start,
            window_end=self._window.end,
            evaluated_until=self.evaluated_until,
            breaches=tuple(breaches),
            blind=self._blind,
            budgets=tuple(tally.evaluation() for tally in self._tallies),
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = copy(self)
        twin._tallies = [tally.copy() for tally in self._tallies]
        twin._clocks = [copy(clock) for clock in self._clocks]
        return twin

    def _is_final(self) -> bool:
        """No verdict is still to come: one is reached, or no further step fits into the window."""
        return self._verdict is not None or (self._until is not None and self._until + self._step > self._end)

    def _fold_chunk(self, frame: Frame, first: int, stop: int) -> int:
        """Fold up to ``stop`` or to the verdict, so that every budget stands exactly there.

        Whatever ran past the earliest verdict is put back and folded again up to it.
        """
        # One look alone is where it ends for every budget: the usual poll copies nothing.
        before = [tally.copy() for tally in self._tallies] if stop - first > 1 else self._tallies
        ends = []
        cut = stop
        for tally in self._tallies:
            end = tally.fold(frame, first, cut)
            ends.append(end)
            cut = min(cut, end)
        breached = any(tally.ended and end == cut for tally, end in zip(self._tallies, ends, strict=True))
        # Usually everything is known, and nothing of this needs to be asked.
        all_seen = not any(tally.unknown or tally.suspended for tally in self._tallies)
        # At the same look, a breach beats blindness.
        blind_at = None
        if not all_seen:
            blind_at = self._look_for_blindness(frame, first, cut - 1 if breached else cut)
        if blind_at is not None:
            cut, breached = blind_at + 1, False
            self._verdict = VerdictKind.BLIND
        elif breached:
            self._verdict = VerdictKind.BREACH
        for place, end in enumerate(ends):
            if end > cut:
                self._tallies[place] = before[place]
                before[place].fold(frame, first, cut)
        for clock in self._clocks:
            clock.advance(frame.times, first, cut, [] if all_seen else self._dark(clock, cut))
        self._go_on(frame.times[cut - 1])
        return cut

    def _go_on(self, until: int) -> None:
        self._until = until if self._until is None else max(self._until, until)
        self._next_look = max(self._next_look, until + 1)

    def _look_for_blindness(self, frame: Frame, first: int, stop: int) -> int | None:
        """Return the look at which blindness ends the watch, and note the first that was found."""
        if self._blind is not None:
            return None
        found = [
            (*blind, clock.area)
            for clock in self._clocks
            if (blind := clock.first_blind(frame.times, first, self._dark(clock, stop), self._blind_after))
        ]
        if not found:
            return None
        look, since_us, area = min(found, key=lambda blind: blind[0])
        since, until = moment(since_us), moment(frame.times[look])
        self._blind = Blind(area=area, since=since, sentence=blind_sentence(area, since, until))
        return None if self._keep_going else look

    def _dark(self, clock: AreaLastSeen, stop: int) -> list[int]:
        """Return the looks before ``stop`` that are unknown to every budget of an area that is in force.

        Where every one is suspended, nobody wants to see anything.
        """
        tallies = [self._tallies[place] for place in clock.budgets]
        if not all(tally.unknown or tally.suspended for tally in tallies):
            return []
        unseen = [{*tally.unknown, *tally.suspended} for tally in tallies]
        dark = unseen[0].intersection(*unseen[1:])
        dark -= set(tallies[0].suspended).intersection(*(tally.suspended for tally in tallies[1:]))
        return sorted(look for look in dark if look < stop)

    def _area_clocks(self, latest: dict[str, int], unseen_since: int) -> list[AreaLastSeen]:
        if self._spec.watch.on_blind is OnBlind.CONTINUE:
            return []
        clocks: dict[str, AreaLastSeen] = {}
        for place, budget in enumerate(self._spec.budgets):
            clock = clocks.setdefault(budget.area, AreaLastSeen(budget.area, unseen_since, ()))
            clock.known = max(clock.known, latest[budget.id])
            clock.budgets += (place,)
        return list(clocks.values())


def evaluate(
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    start: datetime,
    end: datetime | None = None,
    until: datetime | None = None,
    restarts: Sequence[Restart] = (),
    suspensions: Sequence[Suspension] = (),
    keep_going: bool = False,
) -> Evaluation:
    """Return the verdict over recorded ``samples``, which come in any order.

    :param end: of the window; by default ``start`` plus the spec's window.
    :param until: where the record ends; by default at its latest sample.
    :raises SeriesError: samples that cannot be trusted.
    """
    window = Window(start, start + spec.window if end is None else end)
    latest = max((sample.time for sample in samples), default=start) if until is None else until
    fold = Fold(spec, window, restarts=restarts, keep_going=keep_going)
    fold.suspend(suspensions)
    fold.fold(frame_of(spec, samples, start=start, end=max(start, min(latest, window.end))))
    return fold.evaluation()


def _on_breach(
    spec: RolloutSpec, budget: Budget, tiers: frozenset[Tier] | None, *, keep_going: bool
) -> OnBreach:
    if tiers is not None and budget.tier not in tiers:
        return OnBreach.IGNORE
    if keep_going:
        return OnBreach.START_OVER
    records = spec.decision.of(budget.tier).action is Action.RECORD_ONLY
    return OnBreach.LIST_ONCE if records else OnBreach.END
