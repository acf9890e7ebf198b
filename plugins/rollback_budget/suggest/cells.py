"""Cells: the stretches of recorded time that windows are made of, for the metrics of every pace at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rollback_budget.engine.frame import Frame
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.suggest.record import NoChangeRecord

#: A pace with fewer looks than this is too slow for the others to be drawn in its steps.
LEAST_CELLS = 16


class Cells(NamedTuple):
    """A record cut into stretches of one length; all times are in microseconds.

    :param start: of the first one.
    :param length: the step of the slowest pace that has enough looks.
    """

    start: int
    length: int
    total: int


@dataclass(frozen=True, slots=True)
class WindowLooks:
    """The looks of one pace in a window, which begins where the first cell does.

    :param times: in microseconds.
    """

    frame: Frame
    every: int
    cells: Cells
    times: range

    def places(self, drawn: list[int], looks: int) -> list[int]:
        """Return which recorded looks the first ``looks`` of the window are.

        Those of a pace whose steps do not fill a cell are the last that end within the drawn time.

        :param drawn: the recorded cell of each cell of the window.
        """
        start, length, _ = self.cells
        if self.every == length and self.times and self.times[0] == start + length:
            shift = (start + length - self.frame.times[0]) // length
            return [cell + shift for cell in drawn[:looks]] if shift else drawn[:looks]
        first, last, found = self.frame.times[0], len(self.frame.times) - 1, []
        for time in self.times[:looks]:
            cell = (time - start - 1) // length
            recorded = time + (drawn[cell] - cell) * length
            found.append(min(max((recorded - first) // self.every, 0), last))
        return found


def cells_of(record: NoChangeRecord) -> Cells:
    """Return the cells of a record.

    They are as long as the slowest step, so that all metrics of a window come from the same recorded time:
    what they share stays shared. A pace with fewer than :data:`LEAST_CELLS` looks would leave too few cells
    to draw from; its looks are those nearest to the drawn time.
    """
    paces = [(duration_to_us(pace.every), frame.times) for pace, frame in record.paces if frame.times]
    length = max(
        (every for every, times in paces if len(times) >= LEAST_CELLS),
        default=min(every for every, _ in paces),
    )
    slowest = next(times for every, times in paces if every == length)
    whole = slowest[-1] - slowest[0] + length
    # What hardly overlaps, because it is decided much later, does not shorten the rest.
    shared = [
        (times[0] - every, times[-1])
        for every, times in paces
        if every <= length and 2 * (times[-1] - times[0] + every) >= whole
    ]
    begin, end = max(first for first, _ in shared), min(last for _, last in shared)
    grid = slowest[0] - length
    start = grid - (grid - begin) // length * length
    return Cells(start, length, max((end - start) // length, 1))


def looks_of(record: NoChangeRecord, cells: Cells) -> list[WindowLooks]:
    """Return the looks of every pace in a window."""
    end = cells.start + duration_to_us(record.spec.window)
    found = []
    for pace, frame in record.paces:
        every = duration_to_us(pace.every)
        times = range(0)
        if frame.times:
            # The first whole look on the grid of the record.
            phase = (frame.times[0] - cells.start) % every
            times = range(cells.start + every + phase, end + 1, every)
        found.append(WindowLooks(frame, every, cells, times))
    return found
