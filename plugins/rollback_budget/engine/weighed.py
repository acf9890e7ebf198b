"""``method: sequential`` and ``sign``: a budget is used up when the evidence says so (design 5.2)."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from copy import copy
from typing import NamedTuple, Self

from rollback_budget.engine.bets import Betting
from rollback_budget.engine.comparison import BAD, UNKNOWN, Limit, Mean, Observation, View, delta_of
from rollback_budget.engine.eprocess import EProcess
from rollback_budget.engine.instant import length
from rollback_budget.engine.threshold import MOST_SAMPLES, Threshold
from rollback_budget.spec.evidence import Blocks
from rollback_budget.spec.model import Budget, Comparison, RolloutSpec


class Span(NamedTuple):
    """Where a budget counts, in microseconds.

    :param opening: where the watch begins to count; blocks are aligned to it.
    :param begins: from where this budget does: later after a decision to go on.
    """

    opening: int
    begins: int


class Weighed:
    """Weighs the looks block by block; breaches where the evidence is sufficient and the harm still there.

    Burn and status of looks are those of :class:`~rollback_budget.engine.threshold.Threshold`.
    """

    __slots__ = (
        "_betting",
        "_block",
        "_budget",
        "_burn",
        "_earliest",
        "_limit",
        "_open",
        "_process",
        "_seen",
        "_seen_looks",
        "_span",
        "_trail",
    )

    def __init__(
        self, budget: Budget, spec: RolloutSpec, betting: Betting, blocks: Blocks, alpha: float, span: Span
    ) -> None:
        self._budget = budget
        self._betting = betting
        self._limit = Limit(budget)
        self._burn = Threshold(budget, spec)
        self._span = span
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
        #: The latest stretches of looks, as they came.
        self._seen: deque[tuple[View, list[int], int, int]] = deque()
        self._seen_looks = 0

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
        if not self._seen:
            return ()
        _, times, _, stop = self._seen[-1]
        after = times[stop - 1] - self._trail
        looks = [
            view.observation(look, times[look])
            for view, times, first, stop in self._seen
            for look in range(first, stop)
            if times[look] > after and view.statuses[look] is not UNKNOWN
        ]
        return tuple(looks[-MOST_SAMPLES:])

    @property
    def started(self) -> int | None:
        """Since when the evidence has climbed."""
        return max(self._span.opening + self._process.since * self._block, self._span.begins)

    @property
    def over(self) -> int | None:
        """The time over which :attr:`mean` is taken, in microseconds."""
        return self._trail

    @property
    def mean(self) -> Mean:
        """Both arms over the trailing duration."""
        return self._betting.trailing()

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :class:`~rollback_budget.engine.method.Deciding`.

        A block is closed at the look at its end, else at the first look after it.
        """
        breach, first, stop = None, 0, len(times)
        while first < stop and breach is None:
            index = (times[first] - self._span.opening - 1) // self._block
            end = self._span.opening + (index + 1) * self._block
            after = bisect_right(times, end, first)
            if self._open not in (None, index) and self._close() and stop_at_breach:
                breach = first if self._is_used_up(view, first, times) else None
            if breach is not None:
                after = first + 1
            self._collect(view, times, first, after, index)
            if times[after - 1] == end and self._close() and stop_at_breach and breach is None:
                breach = after - 1 if self._is_used_up(view, after - 1, times) else None
            first = after
        seen = view if breach is None else View(view.arms, view.deltas, view.statuses[: breach + 1])
        self._burn.fold(seen, times, stop_at_breach=False)
        return breach

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = copy(self)
        twin._betting, twin._process = self._betting.copy(), self._process.copy()
        twin._burn, twin._seen = self._burn.copy(), self._seen.copy()
        return twin

    def _collect(self, view: View, times: list[int], first: int, stop: int, index: int) -> None:
        self._open = index
        self._betting.add(view, first, stop, index)
        self._seen.append((view, times, first, stop))
        self._seen_looks += stop - first
        while self._seen_looks > MOST_SAMPLES:
            _, _, oldest, end = self._seen[0]
            if self._seen_looks - (end - oldest) < MOST_SAMPLES:
                break
            self._seen.popleft()
            self._seen_looks -= end - oldest

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
