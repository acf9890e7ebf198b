"""Burn: how bad looks use up a budget's duration, and how ``max_gap`` limits what one adds (design 5.1)."""

from __future__ import annotations

from typing import Self

from rollback_budget.engine.comparison import ArmMeans, Observation, View
from rollback_budget.engine.evaluation import BAD, UNKNOWN
from rollback_budget.engine.packed_ring_buffer import PackedRingBuffer
from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.budget import Accounting, Budget
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec

#: A breach holds at most this many of its looks.
MAX_SAMPLES = 120


class Burn:
    """Adds up the time between bad looks; breaches on a bad look once that reaches the maximum duration.

    It is all of ``method: threshold``, and the burn that every other method shows.

    An unknown look changes nothing: its time counts when the bad looks around it are within ``max_gap``.
    """

    __slots__ = ("_bad_at", "_bad_looks", "_consecutive", "_max_duration", "_max_gap", "burn")

    p_value = None
    over = None

    def __init__(self, budget: Budget, spec: RolloutSpec) -> None:
        self._consecutive = budget.accounting is Accounting.CONSECUTIVE
        self._max_duration = duration_to_us(budget.max_duration)
        self._max_gap = duration_to_us(pace_of(spec, budget.metric).max_gap)
        #: Time of the previous known look, if that was a bad one.
        self._bad_at: int | None = None
        #: None while nothing burns, which is the usual case.
        self._bad_looks: BadLooks | None = None
        self.burn = 0

    @property
    def bad_looks(self) -> tuple[Observation, ...]:
        """The latest bad looks of the burn."""
        return () if self._bad_looks is None else self._bad_looks.latest.looks()

    @property
    def started(self) -> int | None:
        """Time of the first bad look of the burn."""
        return None if self._bad_looks is None else self._bad_looks.started

    @property
    def mean(self) -> ArmMeans:
        """Both arms over the bad looks of the burn."""
        return (self._bad_looks or BadLooks()).mean()

    def fold(self, view: View, times: list[int], *, stop_at_breach: bool) -> int | None:
        """Fold the looks of ``view``; see :class:`~rollback_budget.engine.method.DecidingMethod`."""
        burn, bad_at, bad_looks = self.burn, self._bad_at, self._bad_looks
        breach = None
        # Most burns end soon: what made one is put together only when it is still burning.
        burning: list[int] = []
        for offset, status in enumerate(view.statuses):
            if status is UNKNOWN:
                continue
            if status is BAD:
                time = times[offset]
                if bad_at is not None and time - bad_at <= self._max_gap:
                    burn += time - bad_at
                bad_at = time
                burning.append(offset)
                if stop_at_breach and burn >= self._max_duration:
                    breach = offset
                    break
            else:
                if bad_at is not None and self._consecutive:
                    burn, bad_looks = 0, None
                    burning.clear()
                bad_at = None
        if burning:
            bad_looks = bad_looks or BadLooks()
            for offset in burning:
                bad_looks.add(view.observation(offset, times[offset]))
        self.burn, self._bad_at, self._bad_looks = burn, bad_at, bad_looks
        return breach

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = type(self).__new__(type(self))
        for name in self.__slots__:
            setattr(clone, name, getattr(self, name))
        clone._bad_looks = None if self._bad_looks is None else self._bad_looks.copy()
        return clone


class BadLooks:
    """The bad looks of one burn: the latest of them, and sums over all for the averages."""

    __slots__ = ("_least", "_looks", "_plain", "_weighted", "latest", "started")

    def __init__(self) -> None:
        self.started: int | None = None
        self.latest = PackedRingBuffer(MAX_SAMPLES)
        self._looks = 0
        self._plain = (0.0, 0.0)
        self._weighted = (0.0, 0.0, 0.0, 0.0)
        self._least = 0

    def add(self, look: Observation) -> None:
        """Add one bad look."""
        if self.started is None:
            self.started = look.time
        self.latest.add(look)
        self._looks += 1
        self._least |= look.least
        release, baseline = self._plain
        self._plain = (release + look.release, baseline + look.baseline)
        release, release_n, baseline, baseline_n = self._weighted
        self._weighted = (
            release + look.release * look.release_n,
            release_n + look.release_n,
            baseline + look.baseline * look.baseline_n,
            baseline_n + look.baseline_n,
        )

    def mean(self) -> ArmMeans:
        """Return the averages; an arm is weighted by its events where every look has them."""
        release, release_n, baseline, baseline_n = self._weighted
        plain_release, plain_baseline = (total / max(self._looks, 1) for total in self._plain)
        return ArmMeans(
            release=release / release_n if release_n > 0.0 else plain_release,
            baseline=baseline / baseline_n if baseline_n > 0.0 else plain_baseline,
            release_n=release_n,
            baseline_n=baseline_n,
            least=self._least,
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = type(self)()
        clone.started, clone.latest = self.started, self.latest.copy()
        clone._looks, clone._plain, clone._weighted = self._looks, self._plain, self._weighted
        clone._least = self._least
        return clone
