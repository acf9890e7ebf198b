"""The fold: looks in, verdict out; the same looks give the same verdict, however they arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from rollback_budget.engine.blindness import BlindFrom, Blindness
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.budget_state import BudgetState
from rollback_budget.engine.doubts import Doubts
from rollback_budget.engine.evaluation import Blind, Evaluation, Status, VerdictKind
from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.late_data import LateLook
from rollback_budget.engine.messages import blind_sentence
from rollback_budget.engine.pace_fold import PaceFold, Turn, on_breach_of
from rollback_budget.engine.record_span import as_of_record, spans_of
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import datetime_to_us, duration_to_us, us_to_datetime
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.model.budget import Tier
from rollback_budget.model.decision import Action
from rollback_budget.model.pace import pace_of, paces_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind

#: Called after each look with its time and a snapshot of every budget that the look counted for. The time of
#: a look of a slower pace is that of the look of ``watch.settle`` which is decided then.
LookCallback = Callable[[int, tuple[BudgetSnapshot, ...]], None]

#: Looks per chunk: bounds what is copied, and what is folded again after a breach.
CHUNK_SIZE = 2048


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
    """One budget starts over: its looks up to ``at`` no longer count. Without a budget, blindness does.

    Of a slow metric it is the looks that were decided when those of ``watch.settle`` up to ``at`` were.
    """

    budget_id: str | None
    at: datetime


class Fold:
    """Folds frames of looks into an evaluation, and stops at the verdict.

    Its size does not depend on how much it has folded. Looks of several paces are folded in the order in
    which they are decided, so that a live watch, which gets them in that order, and a replay agree.

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
        self._end = datetime_to_us(window.end)
        watch_from = datetime_to_us(window.start) + duration_to_us(spec.watch.grace)
        restarted: dict[str | None, int] = {budget.id: watch_from for budget in spec.budgets}
        restarted[None] = watch_from
        for restart in restarts:
            if restart.budget_id in restarted:
                at = datetime_to_us(restart.at)
                restarted[restart.budget_id] = max(restarted[restart.budget_id], at)
        paces = paces_of(spec)
        self._paces = [PaceFold(place, pace, watch_from, self._end) for place, pace in enumerate(paces)]
        blind_budgets = []
        for budget in spec.budgets:
            place = paces.index(pace_of(spec, budget.metric))
            on_breach = on_breach_of(spec, budget, tiers, keep_going=keep_going)
            pace = self._paces[place]
            # Looks that were not decided when the commander went on are no part of what was decided.
            counted_from = max(restarted[budget.id] - pace.shift, pace.watch_from)
            pace.add(spec, budget, counted_from, on_breach)
            blind_from = max(counted_from, restarted[None] - pace.shift)
            blind_budgets.append(BlindFrom(place, blind_from, pace.blind_after))
        self._blindness = Blindness(spec, blind_budgets) if watch_blind else None
        self._doubts = Doubts(spec)
        self._verdict: VerdictKind | None = None
        self._blind: Blind | None = None

    @property
    def evaluated_until(self) -> datetime | None:
        """Up to where looks are folded; at a verdict, its look.

        Where a slower pace brought the verdict, it is the look of ``watch.settle`` that was due then.
        """
        first, *others = self._paces
        if not others and not first.shift:
            return None if first.until is None else us_to_datetime(first.until)
        looks = [pace.looked_at + pace.shift for pace in self._paces if pace.looked_at is not None]
        return us_to_datetime(max(looks)) if looks else None

    def suspend(self, suspensions: Sequence[Suspension]) -> None:
        """Replace the suspensions, for the looks that are still to be folded."""
        for state in self._states():
            state.suspend(suspensions)

    def add_late(self, looks: Sequence[LateLook]) -> None:
        """Go on with the events of looks that came late or changed; the looks stay as they were decided."""
        for state in self._states():
            state.add_late(looks)

    def fold(
        self, frame: Frame, on_look: LookCallback | None = None, *, only_slow: bool = False
    ) -> Evaluation | None:
        """Fold the looks of ``frame`` that are new; return the verdict once it is reached.

        :param on_look: called after each look; folding is several times slower with it.
        :param only_slow: not called after the looks of the shortest pace.
        """
        if self._verdict is None:
            # A frame may hold more than these budgets: a sweep tries them one by one.
            turns = [
                pace.turn(frame.of(pace.states[0].budget.series) if frame.others else frame)
                for pace in self._paces
            ]
            if only_slow:
                min(turns, key=lambda turn: turn.pace.step).is_said = False
            if len(turns) == 1:
                self._fold_alone(turns[0], on_look, None)
            else:
                self._fold_in_turn(turns, on_look)
            if self._verdict is None:
                for turn in turns:
                    turn.pace.advance_to(min(turn.frame.end, self._end))
        return self.evaluation() if self._is_final() else None

    def statuses(self) -> list[Status | Suspension | None]:
        """Return what the latest look of every budget found, or was suspended by; None for one without."""
        return [state.status for state in self._states()]

    def snapshots(self) -> tuple[BudgetSnapshot, ...]:
        """Return a snapshot of every budget that has had a look."""
        each = (state.snapshot() for state in self._states())
        return tuple(snapshot for snapshot in each if snapshot is not None)

    def doubts(self) -> tuple[str, ...]:
        """Return what is doubtful about the comparison itself; it decides nothing."""
        of_budgets = (state.doubt for state in self._states())
        return (*self._doubts.said(), *(doubt for doubt in of_budgets if doubt is not None))

    def evaluation(self) -> Evaluation:
        """Return the verdict and every budget, or what the verdict would be if no more samples came."""
        states = self._states()
        breaches = sorted(
            (breach for state in states for breach in state.breaches),
            key=lambda breach: breach.breached_at,
        )
        is_final = self._is_final()
        is_over = is_final and self._verdict is None
        said = {
            state.budget.id: text
            for pace in self._paces
            for state, text in pace.not_judged(is_final=is_final, is_over=is_over)
        }
        blind = self._blind
        if self._verdict is not None:
            verdict = self._verdict
        elif any(self._spec.decision.of(one.tier).action is not Action.RECORD_ONLY for one in breaches):
            verdict = VerdictKind.BREACH
        else:
            # A breach that is only recorded lets the release go on; what nobody saw does not.
            blind = blind or self._blind_budgets(states, said)
            verdict = VerdictKind.BREACH if breaches else VerdictKind.HEALTHY
            verdict = verdict if blind is None else VerdictKind.BLIND
        return Evaluation(
            verdict=verdict,
            final=is_final,
            release=self._spec.release,
            baseline=self._spec.baseline,
            spec_sha256=self._sha256,
            window_start=self._window.start,
            window_end=self._window.end,
            evaluated_until=self.evaluated_until,
            breaches=tuple(breaches),
            blind=blind,
            budgets=tuple(state.evaluation(said.get(state.budget.id)) for state in states),
            doubts=self.doubts(),
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._paces = [pace.copy() for pace in self._paces]
        clone._doubts = self._doubts.copy()
        clone._blindness = None if self._blindness is None else self._blindness.copy()
        return clone

    def _states(self) -> list[BudgetState]:
        """Return the state of every budget, in the spec's order."""
        if len(self._paces) == 1:
            return self._paces[0].states
        by_id = {state.budget.id: state for pace in self._paces for state in pace.states}
        return [by_id[budget.id] for budget in self._spec.budgets]

    def _is_final(self) -> bool:
        """Whether the verdict is final: it is reached, or no further step fits into the window."""
        return self._verdict is not None or all(pace.is_over for pace in self._paces)

    def _blind_budgets(self, states: Sequence[BudgetState], said: Mapping[str, str]) -> Blind | None:
        """Return what a window with budgets that were not judged ends as; None where it may promote."""
        is_followed = self._blindness is not None and self._spec.watch.on_blind is not OnBlind.CONTINUE
        found = [state for state in states if state.budget.id in said]
        if not is_followed or not self._is_final() or not found:
            return None
        return Blind(
            area=found[0].budget.area,
            since=min(state.known_at for state in found),
            sentence="; ".join(said[state.budget.id] for state in found),
            budgets=tuple(state.budget.id for state in found),
        )

    def _fold_alone(self, turn: Turn, on_look: LookCallback | None, before: int | None) -> None:
        """Fold the looks of one pace that are decided before the clock shows ``before``; None for all."""
        stop = turn.stop if before is None else turn.first_at(before)
        on_look = on_look if turn.is_said else None
        while turn.first < stop and self._verdict is None:
            last = min(turn.first + (1 if on_look else CHUNK_SIZE), stop)
            turn.first = self._fold_chunk(turn, turn.first, last)
            if on_look is not None:
                on_look(turn.clock(turn.first - 1), turn.snapshots(turn.first - 1))

    def _fold_in_turn(self, turns: Sequence[Turn], on_look: LookCallback | None) -> None:
        """Fold the looks of several paces, each when it is decided."""
        while self._verdict is None and (open_ := [turn for turn in turns if turn.first < turn.stop]):
            clock = min(turn.clock(turn.first) for turn in open_)
            due = [turn for turn in open_ if turn.clock(turn.first) == clock]
            if len(due) == 1:
                others = [turn.clock(turn.first) for turn in open_ if turn is not due[0]]
                self._fold_alone(due[0], on_look, min(others, default=None))
                continue
            self._fold_together(due, clock)
            if on_look is not None:
                said = (one for turn in due if turn.is_said for one in turn.snapshots(turn.first - 1))
                on_look(clock, tuple(said))

    def _fold_together(self, due: Sequence[Turn], clock: int) -> None:
        """Fold one look of each pace: those that are decided at the same time count all."""
        breached = False
        for turn in due:
            look = turn.first
            for state in turn.pace.states:
                state.fold(turn.frame, look, look + 1)
                breached |= state.ends_watch
            self._advance(turn, look, look + 1)
            turn.first += 1
        if breached:
            self._verdict = VerdictKind.BREACH
            return
        blind = (
            None
            if self._blindness is None or self._blind is not None
            else self._blindness.now(self._looks(), clock)
        )
        if blind is not None:
            area, since = blind
            self._note_blind(area, since, clock)
            if not self._keep_going:
                self._verdict = VerdictKind.BLIND
            assert self._blind is not None
            self._blind = self._with_reasons(self._blind)

    def _fold_chunk(self, turn: Turn, first: int, stop: int) -> int:
        """Fold up to ``stop`` or to the verdict, so that every budget is exactly there.

        A budget that was folded beyond the earliest verdict is restored and folded again up to it.
        """
        pace, frame = turn.pace, turn.frame
        # A chunk of one look ends there for every budget: the usual poll copies nothing.
        before = [state.copy() for state in pace.states] if stop - first > 1 else pace.states
        ends = []
        cut = stop
        for state in pace.states:
            end = state.fold(frame, first, cut)
            ends.append(end)
            cut = min(cut, end)
        breached = any(state.ends_watch and end == cut for state, end in zip(pace.states, ends, strict=True))
        # Usually everything is known, and no area can be blind. At the same look, a breach beats blindness.
        blind_at = None
        if any(state.unknown or state.suspended for state in pace.states):
            blind_at = self._find_blindness(turn, first, cut - 1 if breached else cut)
        if blind_at is not None:
            cut, breached = blind_at + 1, False
            self._verdict = VerdictKind.BLIND
        elif breached:
            self._verdict = VerdictKind.BREACH
        for place, end in enumerate(ends):
            if end > cut:
                pace.states[place] = before[place]
                before[place].fold(frame, first, cut)
        if blind_at is not None and self._blind is not None:
            self._blind = self._with_reasons(self._blind)
        self._advance(turn, first, cut)
        return cut

    def _advance(self, turn: Turn, first: int, stop: int) -> None:
        """Go on over looks that every budget of their pace has folded."""
        pace, frame = turn.pace, turn.frame
        if self._blindness is not None:
            self._blindness.advance(pace.place, pace.states, frame.times, first, stop)
        self._doubts.advance(frame, first, stop)
        pace.looked_at = frame.times[stop - 1]
        pace.advance_to(pace.looked_at)

    def _with_reasons(self, blind: Blind) -> Blind:
        """Add why the budgets of the area are unknown; every budget is exactly at the look of the verdict."""
        of_area = (state for state in self._states() if state.budget.area == blind.area)
        reasons = dict.fromkeys(reason for state in of_area if (reason := state.why_unknown) is not None)
        return blind.model_copy(update={"sentence": "; ".join([blind.sentence, *reasons])})

    def _find_blindness(self, turn: Turn, first: int, stop: int) -> int | None:
        """Return the look at which blindness ends the watch, and note the first that was found."""
        if self._blind is not None or self._blindness is None:
            return None
        pace, times = turn.pace, turn.frame.times
        found = self._blindness.first(pace.place, self._looks(), times, first, stop)
        if found is None:
            return None
        self._note_blind(found.area, found.since, times[found.look])
        return None if self._keep_going else found.look

    def _looks(self) -> list[tuple[int, list[BudgetState]]]:
        return [(pace.shift, pace.states) for pace in self._paces]

    def _note_blind(self, area: str, since_us: int, until_us: int) -> None:
        since, until = us_to_datetime(since_us), us_to_datetime(until_us)
        self._blind = Blind(area=area, since=since, sentence=blind_sentence(area, since, until))


def evaluate(
    spec: RolloutSpec,
    samples: Sequence[Sample],
    *,
    start: datetime,
    end: datetime | None = None,
    until: datetime | None = None,
    as_of: datetime | None = None,
    restarts: Sequence[Restart] = (),
    suspensions: Sequence[Suspension] = (),
    keep_going: bool = False,
) -> Evaluation:
    """Return the verdict over recorded ``samples``, which come in any order.

    :param end: of the window; by default ``start`` plus the spec's window.
    :param until: where the record ends; by default at its latest sample.
    :param as_of: what of a slow metric is left out at the end, see ``frame_of``; by default, where no
        ``until`` is given, what was decided after the latest sample.
    :raises SeriesError: samples that cannot be trusted.
    """
    window = Window(start, start + spec.window if end is None else end)
    latest = max((sample.time for sample in samples), default=start) if until is None else until
    fold = Fold(spec, window, restarts=restarts, keep_going=keep_going)
    fold.suspend(suspensions)
    if as_of is None and until is None:
        as_of = as_of_record(spec, spans_of(samples))
    fold.fold(frame_of(spec, samples, start=start, end=max(start, min(latest, window.end)), as_of=as_of))
    return fold.evaluation()
