"""No-change windows drawn from a record: blocks of recorded looks, in a new order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from random import Random
from typing import TypeVar

from rollback_budget.engine.frame import Arms
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.suggest.cells import Cells, WindowLooks, cells_of, looks_of
from rollback_budget.suggest.record import DAY, NoChangeRecord

_T = TypeVar("_T")

#: A block comes from a time of day that is no further away than this.
TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True)
class Bootstrap:
    """A moving-block bootstrap (Künsch 1989; Liu and Singh 1992) that keeps the time of day.

    All series and both versions of a look come from the same recorded time, so that what they share stays
    shared; with several paces, blocks are whole steps of the slowest (see
    :func:`~rollback_budget.suggest.cells.cells_of`). With two days or more recorded, a block comes from any
    of the days, at its own time of day give or take :data:`TOLERANCE`.

    :param block: cells in a block.
    """

    record: NoChangeRecord
    block: int
    seed: int = 0

    @cached_property
    def cells(self) -> Cells:
        """The stretches of recorded time that are drawn."""
        return cells_of(self.record)

    @property
    def start(self) -> int:
        """Where a window begins, in microseconds."""
        return self.cells.start

    @property
    def keeps_time_of_day(self) -> bool:
        """Whether blocks come from their own time of day: with two days or more."""
        return self.cells.total * self.cells.length >= 2 * duration_to_us(DAY)

    @property
    def tolerance(self) -> timedelta | None:
        """How far from its own time of day a block may come; None where that is not kept."""
        cell = timedelta(microseconds=self.cells.length)
        return TOLERANCE // cell * cell if self.keeps_time_of_day else None

    def times(self, series: str) -> Sequence[int]:
        """Return the times of the looks of a window, in microseconds."""
        return next(looks.times for looks in self._looks if series in looks.frame.arms)

    def places(self, window: int, within: timedelta | None = None) -> list[int]:
        """Return which recorded cells make up a window.

        :param window: its number; the same one is always the same.
        :param within: only the first of it.
        """
        random, (_, length, there) = self.random(window), self.cells
        block = min(self.block, there)
        if self.keeps_time_of_day:
            # A block of any time of day must fit into the record.
            block = max(min(block, there + -duration_to_us(DAY) // length), 1)
        begin = random.randrange(there)
        wanted = max(-(-duration_to_us(self._span(within)) // length), 1)
        found: list[int] = []
        while len(found) < wanted:
            first = self._start(random, begin + len(found), there - block)
            found += range(first, first + block)
        return found[:wanted]

    def arms(self, window: int, within: timedelta | None = None) -> dict[str, Arms]:
        """Return the arms of every series in a window; those of a slower pace have fewer looks."""
        drawn = self.places(window, within)
        until = self.start + duration_to_us(self._span(within))
        found: dict[str, Arms] = {}
        for looks in self._looks:
            count = bisect_right(looks.times, until)
            places = looks.places(drawn, count) if count else []
            found |= {name: _picked(arms, places) for name, arms in looks.frame.arms.items()}
        return found

    def random(self, *names: object) -> Random:
        """Return the chance of one window, which depends on nothing but the seed and its names."""
        return Random(":".join(map(str, (self.seed, *names))))  # noqa: S311

    @cached_property
    def _looks(self) -> list[WindowLooks]:
        return looks_of(self.record, self.cells)

    def _span(self, within: timedelta | None) -> timedelta:
        window = self.record.spec.window
        return window if within is None else min(within, window)

    def _start(self, random: Random, place: int, last: int) -> int:
        """Return where in the record a block begins, in cells.

        :param place: a cell of the record at whose time of day it should be, or one beyond it.
        :param last: the last cell with which a block may begin.
        """
        if not self.keeps_time_of_day:
            return random.randint(0, last)
        length, day = self.cells.length, duration_to_us(DAY)
        around = duration_to_us(TOLERANCE) // length
        of_day, furthest = place * length % day, last + around
        days = range(furthest * length // day + 2)
        nearest = dict.fromkeys(round((of_day + number * day) / length) for number in days)
        middles = [cell for cell in nearest if cell <= furthest]
        return min(max(random.choice(middles) + random.randint(-around, around), 0), last)


def _picked(arms: Arms, places: list[int]) -> Arms:
    return Arms(
        _pick(arms.release, places),
        _pick(arms.release_n, places),
        _pick(arms.baseline, places),
        _pick(arms.baseline_n, places),
        _pick(arms.release_buckets, places),
        _pick(arms.baseline_buckets, places),
        _pick(arms.release_least, places),
        _pick(arms.baseline_least, places),
    )


def _pick(column: Sequence[_T], places: list[int]) -> list[_T]:
    return [column[place] for place in places] if column else []
