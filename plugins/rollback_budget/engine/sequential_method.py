"""``method: sequential`` and ``sign``: a budget breaches when the evidence suffices (design 5.2)."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from typing import NamedTuple, Self

from rollback_budget.engine.burn import MAX_SAMPLES, Burn
from rollback_budget.engine.comparison import ArmMeans, Observation, View
from rollback_budget.engine.delta import delta_of
from rollback_budget.engine.eprocess import EProcess
from rollback_budget.engine.evaluation import BAD
from rollback_budget.engine.evidence import BlockStatistic
from rollback_budget.engine.packed_ring_buffer import PackedRingBuffer
from rollback_budget.engine.threshold_tolerance import threshold_of
from rollback_budget.engine.time_us import ceil_to_grid, duration_to_us
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.method_plan import Blocks
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec


class CountingPeriod(NamedTuple):
    """From where a budget counts, in microseconds.

    :param watch_from: from where the watch counts; blocks begin there, see :func:`blocks_from`.
    :param budget_from: from where this budget counts: later after an override.
    """

    watch_from: int
    budget_from: int


def blocks_from(spec: RolloutSpec, budget: Budget, watch_from: int) -> int:
    """Return from where blocks are counted, in microseconds: the begin of the first look that may count.

    Releases ship at any minute, and the looks of a slow metric lie on its own grid. Blocks that began in
    between would each wait for the look after their last one, and the last look of a window in vain.
    """
    return ceil_to_grid(watch_from, duration_to_us(pace_of(spec, budget.metric).every))


class SequentialMethod:
    """Tests the looks block by block; breaches when the evidence suffices and the harm is still there.

    Burn and status of looks are those of :class:`~rollback_budget.engine.threshold_method.Burn`.
    """

    __slots__ = (
        "_block",
        "_blocks_from",
        "_budget",
        "_budget_from",
        "_burn",
        "_earliest",
        "_open",
        "_process",
        "_recent",
        "_statistic",
        "_threshold",
        "_trailing",
    )

    def __init__(
        self,
        budget: Budget,
        spec: RolloutSpec,
        statistic: BlockStatistic,
        blocks: Blocks,
        alpha: float,
        period: CountingPeriod,
    ) -> None:
        self._budget = budget
        self._statistic = statistic
        self._threshold = threshold_of(budget)
        self._burn = Burn(budget, spec)
        self._blocks_from = blocks_from(spec, budget, period.watch_from)
        self._budget_from = period.budget_from
        self._block = duration_to_us(blocks.length)
        self._trailing = blocks.in_duration * self._block
        self._earliest = period.budget_from + duration_to_us(budget.max_duration)
        self._process = EProcess(
            alpha=alpha,
            blocks=blocks.in_duration,
            in_window=blocks.in_window,
            alternatives=statistic.alternatives,
        )
        #: The block whose looks are being collected, None right after it was closed.
        self._open: int | None = None
        #: The known looks of the trailing duration.
        self._recent = PackedRingBuffer(MAX_SAMPLES)

    @property
    def burn(self) -> int:
        """How much of the budget's duration is used up by bad looks, in microseconds."""
        return self._burn.burn

    @property
    def p_value(self) -> float | None:
        """The always-valid p-value."""
        return self._process.p_value

    @property
    def bad_looks(self) -> tuple[Observation, ...]:
        """The latest known looks of the trailing duration."""
        return self._recent.looks()

    @property
    def started(self) -> int | None:
        """Since when the evidence has been rising."""
        return max(self._blocks_from + self._process.since * self._block, self._budget_from)

    @property
    def over(self) -> int | None:
        """The time over which :attr:`mean` is taken, in microseconds."""
        return self._trailing

    @property
    def mean(self) -> ArmMeans:
        """Both arms over the trailing duration."""
        return self._statistic.trailing()

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :class:`~rollback_budget.engine.method.DecidingMethod`.

        A block is closed at the look at its end, else at the first look after it.
        """
        breach, first, stop = None, 0, len(times)
        while first < stop and breach is None:
            index = (times[first] - self._blocks_from - 1) // self._block
            end = self._blocks_from + (index + 1) * self._block
            after = bisect_right(times, end, first)
            if self._open not in (None, index) and self._close() and stop_at_breach:
                breach = first if self._is_used_up(view, first, times) else None
            if breach is not None:
                after = first + 1
            self._open = index
            self._statistic.add(view, first, after, index)
            if times[after - 1] == end and self._close() and stop_at_breach and breach is None:
                breach = after - 1 if self._is_used_up(view, after - 1, times) else None
            first = after
        stop = len(times) if breach is None else breach + 1
        seen = view if breach is None else View(view.arms, view.deltas, view.statuses[:stop])
        self._burn.fold(seen, times, stop_at_breach=False)
        if stop:
            self._recent.extend(view, times, stop, after=times[stop - 1] - self._trailing)
        return breach

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._statistic, clone._process = self._statistic.copy(), self._process.copy()
        clone._burn, clone._recent = self._burn.copy(), self._recent.copy()
        return clone

    def _close(self) -> bool:
        """Fold the open block; return whether it brought evidence."""
        assert self._open is not None
        index, self._open = self._open, None
        logs = self._statistic.close(index)
        return logs is not None and self._process.update(index, logs)

    def _is_used_up(self, view: View, look: int, times: list[int]) -> bool:
        if not self._process.rejects or times[look] < self._earliest:
            return False
        if self._budget.comparison is Comparison.INCREASE:
            return view.statuses[look] is BAD
        mean = self._statistic.trailing()
        delta = delta_of(self._budget, mean.release, mean.baseline)
        found = self._threshold.status(self._budget, delta, mean.release, mean.baseline, mean.least)
        return found is BAD
