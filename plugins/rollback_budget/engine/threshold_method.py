"""``method: threshold``: the duration rule on the value of each step, and nothing else (design 5.1)."""

from __future__ import annotations

from typing import Self

from rollback_budget.engine.comparison import BAD, UNKNOWN, Mean, Observation, View
from rollback_budget.engine.packed_ring_buffer import PackedRingBuffer
from rollback_budget.engine.time_us import length
from rollback_budget.model.budget import Accounting, Budget
from rollback_budget.model.spec import RolloutSpec

#: A breach carries at most this many of its looks.
MOST_SAMPLES = 120


class ThresholdMethod:
    """Burns on bad looks; breaches on a bad look once the burn has reached the maximum duration.

    An unknown look changes nothing, so the time it stands for counts when bad looks enclose it closely.
    """

    __slots__ = ("_bad_at", "_consecutive", "_evidence", "_max_duration", "_max_gap", "burn")

    p_value = None
    over = None

    def __init__(self, budget: Budget, spec: RolloutSpec) -> None:
        self._consecutive = budget.accounting is Accounting.CONSECUTIVE
        self._max_duration = length(budget.max_duration)
        self._max_gap = length(spec.watch.max_gap)
        #: Time of the previous known look, if that was a bad one.
        self._bad_at: int | None = None
        #: None while nothing burns, as nearly always.
        self._evidence: Evidence | None = None
        self.burn = 0

    @property
    def bad_looks(self) -> tuple[Observation, ...]:
        """The latest bad looks of the burn."""
        return () if self._evidence is None else self._evidence.latest.looks()

    @property
    def started(self) -> int | None:
        """Time of the first bad look of the burn."""
        return None if self._evidence is None else self._evidence.started

    @property
    def mean(self) -> Mean:
        """Both arms over the bad looks of the burn."""
        return (self._evidence or Evidence()).mean()

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :class:`~rollback_budget.engine.method.DecidingMethod`."""
        burn, bad_at, evidence = self.burn, self._bad_at, self._evidence
        breach = None
        for offset, status in enumerate(view.statuses):
            if status is UNKNOWN:
                continue
            if status is BAD:
                time = times[offset]
                if bad_at is not None and time - bad_at <= self._max_gap:
                    burn += time - bad_at
                bad_at = time
                evidence = evidence or Evidence()
                evidence.add(view.observation(offset, time))
                if stop_at_breach and burn >= self._max_duration:
                    breach = offset
                    break
            else:
                if bad_at is not None and self._consecutive:
                    burn, evidence = 0, None
                bad_at = None
        self.burn, self._bad_at, self._evidence = burn, bad_at, evidence
        return breach

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = type(self).__new__(type(self))
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._evidence = None if self._evidence is None else self._evidence.copy()
        return twin


class Evidence:
    """The bad looks of one burn: the latest of them, and sums over all for the averages."""

    __slots__ = ("_looks", "_plain", "_weighted", "latest", "started")

    def __init__(self) -> None:
        self.started: int | None = None
        self.latest = PackedRingBuffer(MOST_SAMPLES)
        self._looks = 0
        self._plain = (0.0, 0.0)
        self._weighted = (0.0, 0.0, 0.0, 0.0)

    def add(self, seen: Observation) -> None:
        """Take in one bad look."""
        if self.started is None:
            self.started = seen.time
        self.latest.add(seen)
        self._looks += 1
        release, baseline = self._plain
        self._plain = (release + seen.release, baseline + seen.baseline)
        release, release_n, baseline, baseline_n = self._weighted
        self._weighted = (
            release + seen.release * seen.release_n,
            release_n + seen.release_n,
            baseline + seen.baseline * seen.baseline_n,
            baseline_n + seen.baseline_n,
        )

    def mean(self) -> Mean:
        """Return the averages; an arm is weighted by its events where every look has them."""
        release, release_n, baseline, baseline_n = self._weighted
        plain_release, plain_baseline = (total / max(self._looks, 1) for total in self._plain)
        return Mean(
            release=release / release_n if release_n > 0.0 else plain_release,
            baseline=baseline / baseline_n if baseline_n > 0.0 else plain_baseline,
            release_n=release_n,
            baseline_n=baseline_n,
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        twin = type(self)()
        twin.started, twin.latest = self.started, self.latest.copy()
        twin._looks, twin._plain, twin._weighted = self._looks, self._plain, self._weighted
        return twin
