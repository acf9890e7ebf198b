"""The fold: looks in, verdict out; the same looks give the same verdict, however they arrive."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from rollback_budget.engine.blindness import Blindness
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.budget_state import BudgetState, OnBreach
from rollback_budget.engine.doubts import Doubts
from rollback_budget.engine.evaluation import Blind, Evaluation, Status, VerdictKind
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.late_data import LateLook
from rollback_budget.engine.messages import blind_sentence
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us, us_to_datetime
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.decision import Action
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind

#: Called after each look with its time and a snapshot of every budget that the look counted for.
LookCallback = Callable[[int, tuple[BudgetSnapshot, ...]], None]

#: Looks per chunk: bounds what is copied, and what is folded again after a breach.
CHUNK_SIZE = 256


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
        self._step = duration_to_us(spec.watch.step)
        self._end = datetime_to_us(window.end)
        self._blind_after = duration_to_us(spec.watch.blind_after)
        watch_from = datetime_to_us(window.start) + duration_to_us(spec.watch.grace)
        budgets_from = {budget.id: watch_from for budget in spec.budgets}
        blind_from = watch_from
        for restart in restarts:
            if restart.budget_id is None:
                blind_from = max(blind_from, datetime_to_us(restart.at))
            elif restart.budget_id in budgets_from:
                budgets_from[restart.budget_id] = max(
                    budgets_from[restart.budget_id], datetime_to_us(restart.at)
                )
        self._states = [
            BudgetState(
                spec,
                budget,
                watch_from=watch_from,
                budget_from=budgets_from[budget.id],
                first_look=max(watch_from + self._step, budgets_from[budget.id] + 1),
                on_breach=_on_breach(spec, budget, tiers, keep_going=keep_going),
            )
            for budget in spec.budgets
        ]
        self._next_look = watch_from + self._step
        self._blindness = Blindness(spec, budgets_from, blind_from) if watch_blind else None
        self._doubts = Doubts(spec)
        self._until: int | None = None
        self._verdict: VerdictKind | None = None
        self._blind: Blind | None = None

    @property
    def evaluated_until(self) -> datetime | None:
        """Up to where looks are folded; at a verdict, its look."""
        return None if self._until is None else us_to_datetime(self._until)

    def suspend(self, suspensions: Sequence[Suspension]) -> None:
        """Replace the suspensions, for the looks that are still to be folded."""
        for state in self._states:
            state.suspend(suspensions)

    def add_late(self, looks: Sequence[LateLook]) -> None:
        """Go on with the events of looks that came late or changed; the looks stay as they were decided."""
        for state in self._states:
            state.add_late(looks)

    def fold(self, frame: Frame, on_look: LookCallback | None = None) -> Evaluation | None:
        """Fold the looks of ``frame`` that are new; return the verdict once it is reached.

        :param on_look: called after each look; folding is several times slower with it.
        """
        if self._verdict is None:
            first = bisect_left(frame.times, self._next_look)
            for state in self._states if first else ():
                state.count_late_looks(frame, first)
            stop = bisect_right(frame.times, min(self._end, frame.end))
            while first < stop and self._verdict is None:
                first = self._fold_chunk(frame, first, min(first + (1 if on_look else CHUNK_SIZE), stop))
                if on_look is not None:
                    time = frame.times[first - 1]
                    on_look(time, tuple(one for one in self.snapshots() if one.look.time == time))
            if self._verdict is None:
                self._advance_to(min(frame.end, self._end))
        return self.evaluation() if self._is_final() else None

    def statuses(self) -> list[Status | Suspension | None]:
        """Return what the latest look of every budget found, or was suspended by; None for one without."""
        return [state.status for state in self._states]

    def snapshots(self) -> tuple[BudgetSnapshot, ...]:
        """Return a snapshot of every budget that has had a look."""
        each = (state.snapshot() for state in self._states)
        return tuple(snapshot for snapshot in each if snapshot is not None)

    def doubts(self) -> tuple[str, ...]:
        """Return what is doubtful about the comparison itself; it decides nothing."""
        return self._doubts.said()

    def evaluation(self) -> Evaluation:
        """Return the verdict and every budget, or what the verdict would be if no more samples came."""
        breaches = sorted(
            (breach for state in self._states for breach in state.breaches),
            key=lambda breach: breach.breached_at,
        )
        not_judged = [self._not_judged(state) for state in self._states]
        blind = self._blind
        if self._verdict is not None:
            verdict = self._verdict
        elif any(self._spec.decision.of(one.tier).action is not Action.RECORD_ONLY for one in breaches):
            verdict = VerdictKind.BREACH
        else:
            # A breach that is only recorded lets the release go on; what nobody saw does not.
            blind = blind or self._blind_budgets(not_judged)
            verdict = VerdictKind.BREACH if breaches else VerdictKind.HEALTHY
            verdict = verdict if blind is None else VerdictKind.BLIND
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
            blind=blind,
            budgets=tuple(
                state.evaluation(said) for state, said in zip(self._states, not_judged, strict=True)
            ),
            doubts=self.doubts(),
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._states = [state.copy() for state in self._states]
        clone._doubts = self._doubts.copy()
        clone._blindness = None if self._blindness is None else self._blindness.copy()
        return clone

    def _is_final(self) -> bool:
        """Whether the verdict is final: it is reached, or no further step fits into the window."""
        return self._verdict is not None or (self._until is not None and self._until + self._step > self._end)

    def _not_judged(self, state: BudgetState) -> str | None:
        if self._until is None:
            return None
        return state.not_judged(self._until, self._blind_after, is_over=self._is_final())

    def _blind_budgets(self, not_judged: Sequence[str | None]) -> Blind | None:
        """Return what a window with budgets that were not judged ends as; None where it may promote."""
        is_followed = self._blindness is not None and self._spec.watch.on_blind is not OnBlind.CONTINUE
        if not is_followed or not self._is_final():
            return None
        found = [
            (state, said) for state, said in zip(self._states, not_judged, strict=True) if said is not None
        ]
        if not found:
            return None
        return Blind(
            area=found[0][0].budget.area,
            since=min(state.known_at for state, _ in found),
            sentence="; ".join(said for _, said in found),
            budgets=tuple(state.budget.id for state, _ in found),
        )

    def _fold_chunk(self, frame: Frame, first: int, stop: int) -> int:
        """Fold up to ``stop`` or to the verdict, so that every budget is exactly there.

        A budget that was folded beyond the earliest verdict is restored and folded again up to it.
        """
        # A chunk of one look ends there for every budget: the usual poll copies nothing.
        before = [state.copy() for state in self._states] if stop - first > 1 else self._states
        ends = []
        cut = stop
        for state in self._states:
            end = state.fold(frame, first, cut)
            ends.append(end)
            cut = min(cut, end)
        breached = any(state.ends_watch and end == cut for state, end in zip(self._states, ends, strict=True))
        # Usually everything is known, and no area can be blind. At the same look, a breach beats blindness.
        blind_at = None
        if any(state.unknown or state.suspended for state in self._states):
            blind_at = self._find_blindness(frame, first, cut - 1 if breached else cut)
        if blind_at is not None:
            cut, breached = blind_at + 1, False
            self._verdict = VerdictKind.BLIND
        elif breached:
            self._verdict = VerdictKind.BREACH
        for place, end in enumerate(ends):
            if end > cut:
                self._states[place] = before[place]
                before[place].fold(frame, first, cut)
        if blind_at is not None and self._blind is not None:
            self._blind = self._with_reasons(self._blind)
        if self._blindness is not None:
            self._blindness.advance(self._states, frame.times, first, cut)
        self._doubts.advance(frame, first, cut)
        self._advance_to(frame.times[cut - 1])
        return cut

    def _with_reasons(self, blind: Blind) -> Blind:
        """Add why the budgets of the area are unknown; every budget is exactly at the look of the verdict."""
        of_area = (state for state in self._states if state.budget.area == blind.area)
        reasons = dict.fromkeys(reason for state in of_area if (reason := state.why_unknown) is not None)
        return blind.model_copy(update={"sentence": "; ".join([blind.sentence, *reasons])})

    def _advance_to(self, until: int) -> None:
        self._until = until if self._until is None else max(self._until, until)
        self._next_look = max(self._next_look, until + 1)

    def _find_blindness(self, frame: Frame, first: int, stop: int) -> int | None:
        """Return the look at which blindness ends the watch, and note the first that was found."""
        if self._blind is not None or self._blindness is None:
            return None
        found = self._blindness.first(self._states, frame.times, first, stop)
        if found is None:
            return None
        since, until = us_to_datetime(found.since), us_to_datetime(frame.times[found.look])
        sentence = blind_sentence(found.area, since, until)
        self._blind = Blind(area=found.area, since=since, sentence=sentence)
        return None if self._keep_going else found.look


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
