"""``method: sequential`` and ``sign``: a budget is used up when the evidence says so (design 5.2)."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from typing import NamedTuple, Self

from rollback_budget.engine.comparison import BAD, Mean, Observation, View, delta_of, limit_of
from rollback_budget.engine.eprocess import EProcess
from rollback_budget.engine.evidence import BlockStatistic
from rollback_budget.engine.packed_ring_buffer import PackedRingBuffer
from rollback_budget.engine.threshold_method import MOST_SAMPLES, ThresholdMethod
from rollback_budget.engine.time_us import length
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.method_plan import Blocks
from rollback_budget.model.spec import RolloutSpec


class Span(NamedTuple):
    """Where a budget counts, in microseconds.

    :param opening: where the watch begins to count; blocks are aligned to it.
    :param begins: from where this budget does: later after a decision to go on.
    """

    opening: int
    begins: int


class SequentialMethod:
    """Weighs the looks block by block; breaches where the evidence is sufficient and the harm still there.

    Burn and status of looks are those of :class:`~rollback_budget.engine.threshold_method.ThresholdMethod`.
    """

    __slots__ = (
        "_begins",
        "_betting",
        "_block",
        "_budget",
        "_burn",
        "_earliest",
        "_limit",
        "_open",
        "_opening",
        "_process",
        "_recent",
        "_trail",
    )

    def __init__(
        self,
        budget: Budget,
        spec: RolloutSpec,
        betting: BlockStatistic,
        blocks: Blocks,
        alpha: float,
        span: Span,
    ) -> None:
        self._budget = budget
        self._betting = betting
        self._limit = limit_of(budget)
        self._burn = ThresholdMethod(budget, spec)
        self._opening, self._begins = span
        self._block = length(blocks.length)
        self._trail = blocks.in_duration * self._block
        self._earliest = span.begins + length(budget.max_duration)
        self._process = EProcess(
            alpha=alpha,
            blocks=blocks.in_duration,
            in_window=blocks.in_window,
            alternatives=betting.alternatives,
        )
        #: The block whose looks are being collected, None right after it was closed.
        self._open: int | None = None
        #: The known looks of the trailing duration.
        self._recent = PackedRingBuffer(MOST_SAMPLES)

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
        """Since when the evidence has climbed."""
        return max(self._opening + self._process.since * self._block, self._begins)

    @property
    def over(self) -> int | None:
        """The time over which :attr:`mean` is taken, in microseconds."""
        return self._trail

    @property
    def mean(self) -> Mean:
        """Both arms over the trailing duration."""
        return self._betting.trailing()

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :class:`~rollback_budget.engine.method.DecidingMethod`.

        A block is closed at the look at its end, else at the first look after it.
        """
        breach, first, stop = None, 0, len(times)
        while first < stop and breach is None:
            index = (times[first] - self._opening - 1) // self._block
            end = self._opening + (index + 1) * self._block
            after = bisect_right(times, end, first)
            if self._open not in (None, index) and self._close() and stop_at_breach:
                breach = first if self._is_used_up(view, first, times) else None
            if breach is not None:
                after = first + 1
            self._open = index
            self._betting.add(view, first, after, index)
            if times[after - 1] == end and self._close() and stop_at_breach and breach is None:
                breach = after - 1 if self._is_used_up(view, after - 1, times) else None
            first = after
        stop = len(times) if breach is None else breach + 1
        seen = view if breach is None else View(view.arms, view.deltas, view.statuses[:stop])
        self._burn.fold(seen, times, stop_at_breach=False)
        if stop:
            self._recent.extend(view, times, stop, after=times[stop - 1] - self._trail)
        return breach

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = copy(self)
        twin._betting, twin._process = self._betting.copy(), self._process.copy()
        twin._burn, twin._recent = self._burn.copy(), self._recent.copy()
        return twin

    def _close(self) -> bool:
        """Fold the open block; return whether it brought evidence."""
        assert self._open is not None
        index, self._open = self._open, None
        logs = self._betting.close(index)
        return logs is not None and self._process.update(index, logs)

    def _is_used_up(self, view: View, look: int, times: list[int]) -> bool:
        if not self._process.rejects or times[look] < self._earliest:
            return False
        if self._budget.comparison is Comparison.INCREASE:
            return view.statuses[look] is BAD
        mean = self._betting.trailing()
        delta = delta_of(self._budget, mean.release, mean.baseline)
        return self._limit.status(self._budget, delta, mean.release, mean.baseline) is BAD
