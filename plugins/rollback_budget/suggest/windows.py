"""Rules tried on drawn windows, in several processes."""

from __future__ import annotations

import gc
import multiprocessing
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

from rollback_budget.engine.frame import Arms
from rollback_budget.engine.increase import comparator_of
from rollback_budget.engine.method import CountingPeriod, select_method
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.budget import Budget
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.suggest.bootstrap import Bootstrap
from rollback_budget.suggest.harm import can_harm, harmed
from rollback_budget.suggest.may_breach import may_breach

#: Windows that a process is given at a time.
CHUNK = 20
#: With fewer windows, starting processes takes longer than trying them in this one.
MIN_FOR_PROCESSES = 100

#: After how long each budget of a rule breached in one window; None where it did not.
Breaches = tuple[timedelta | None, ...]

_drawn: Bootstrap | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    :param rule: the budgets are folded with the false-rollback rate that they have among all of its own.
    :param budgets: which of them, by their place; None for all.
    :param harm: how many times its threshold every budget's release is worse from the first look on.
    :param within: only looks of so much of each window; None for all of it.
    """

    rule: RolloutSpec
    budgets: tuple[int, ...] | None = None
    harm: float = 0.0
    within: timedelta | None = None


class DrawnWindows(AbstractContextManager["DrawnWindows"]):
    """Windows without change, on which rules are tried.

    :param jobs: processes; what comes out does not depend on it.
    :param on_begin: called with a number of windows that are going to be tried.
    :param on_done: called with a number of them that were.
    """

    def __init__(
        self,
        drawn: Bootstrap,
        *,
        jobs: int = 1,
        on_begin: Callable[[int], object] = lambda _: None,
        on_done: Callable[[int], object] = lambda _: None,
    ) -> None:
        # Of the record only the looks are drawn from; its samples need not travel to other processes.
        self._drawn = replace(drawn, record=replace(drawn.record, samples=()))
        self._jobs, self._on_begin, self._on_done = jobs, on_begin, on_done
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def try_rule(self, trial: Trial, windows: range) -> list[Breaches]:
        """Return what ``trial`` did in each of the windows, in their order."""
        self._on_begin(len(windows))
        one = partial(_try_windows, trial)
        chunks = [windows[first : first + CHUNK] for first in range(0, len(windows), CHUNK)]
        if self._jobs <= 1 or len(windows) < MIN_FOR_PROCESSES:
            return self._collect(partial(one, drawn=self._drawn)(chunk) for chunk in chunks)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._jobs,
                # A fresh process, not a fork: the caller may run threads (a progress bar does).
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._drawn,),
            )
        return self._collect(self._pool.map(one, chunks))

    def _collect(self, results: Iterable[list[Breaches]]) -> list[Breaches]:
        collected: list[Breaches] = []
        for result in results:
            collected += result
            self._on_done(len(result))
        return collected


def breaches_in(
    trial: Trial,
    arms_of: Callable[[Budget], Arms],
    times_of: Callable[[Budget], Sequence[int]],
    start: int,
) -> Breaches:
    """Return after how long each budget breaches: when the look that does it is decided.

    :param arms_of: the looks of a budget's series.
    :param times_of: their times, in microseconds; they may be more than the looks.
    :param start: of the window, in microseconds.
    """
    rule, found = trial.rule, list[timedelta | None]()
    budgets = rule.budgets if trial.budgets is None else [rule.budgets[place] for place in trial.budgets]
    for budget in budgets:
        arms, times = arms_of(budget), times_of(budget)
        looks, pace = len(arms.release), pace_of(rule, budget.metric)
        watch_from = start + duration_to_us(rule.watch.grace + pace.leaves_out)
        # Only a look that lies wholly behind the grace counts.
        first = bisect_left(times, watch_from + duration_to_us(pace.every), 0, looks)
        if first == looks:
            found.append(None)
            continue
        rest, seen = arms.part(first, looks), list(times[first:looks])
        if not may_breach(rule, budget, rest, seen, watch_from):
            found.append(None)
            continue
        view = comparator_of(budget, rule).view(rest, 0, looks - first)
        method = select_method(budget, rule, CountingPeriod(watch_from, watch_from))
        breach = method.fold(view, seen, stop_at_breach=True)
        if breach is None:
            found.append(None)
        else:
            decided = timedelta(microseconds=seen[breach] - start) + max(pace.shift, timedelta(0))
            found.append(decided)
    return tuple(found)


def _begin(drawn: Bootstrap) -> None:
    global _drawn
    _drawn = drawn
    # Looks are many small values and no cycles; looking for cycles would only cost time.
    gc.disable()


def _try_windows(trial: Trial, windows: range, drawn: Bootstrap | None = None) -> list[Breaches]:
    drawn = drawn or _drawn
    assert drawn is not None
    found = []
    for window in windows:
        arms = drawn.arms(window, trial.within)

        def arms_of(budget: Budget, arms: dict[str, Arms] = arms, window: int = window) -> Arms:
            recorded = arms[budget.series]
            if not trial.harm or not can_harm(budget):
                return recorded
            return harmed(trial.rule, budget, recorded, trial.harm, drawn.random(window, budget.id))

        found.append(breaches_in(trial, arms_of, lambda budget: drawn.times(budget.series), drawn.start))
    return found
