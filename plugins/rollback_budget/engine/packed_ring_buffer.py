"""Recent looks, packed into bytes: a watch keeps them for hours, and no garbage collector walks them."""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct
from typing import Self

from rollback_budget.engine.comparison import Observation, View, least_at
from rollback_budget.engine.evaluation import BAD, GOOD, UNKNOWN

_LOOK = Struct("<qB5d")
_TIME = Struct("<q")
_STATUSES = (UNKNOWN, GOOD, BAD)
#: The status shares its byte with what is only known at least.
_LEAST = len(_STATUSES)


class PackedRingBuffer:
    """The latest looks that were given, oldest first, and no more than ``most``.

    As objects, the looks of 5 000 rollouts would be tens of millions, and one full garbage collection would
    stop every watch of the process for seconds.
    """

    __slots__ = ("_most", "_packed")

    def __init__(self, most: int) -> None:
        self._most = most * _LOOK.size
        self._packed = b""

    def add(self, seen: Observation) -> None:
        """Take in one look, later than those before."""
        time, status, *numbers, least = seen
        code = _STATUSES.index(status) + _LEAST * least
        self._packed = (self._packed + _LOOK.pack(time, code, *numbers))[-self._most :]

    def extend(self, view: View, times: list[int], stop: int, after: int) -> None:
        """Take in the known looks before ``stop`` that are later than ``after``, and forget what is not."""
        packed, arms, statuses = self._packed, view.arms, view.statuses
        oldest = 0
        while oldest < len(packed) and _TIME.unpack_from(packed, oldest)[0] <= after:
            oldest += _LOOK.size
        packed = packed[oldest:]
        for look in range(bisect_right(times, after, 0, stop), stop):
            status = statuses[look]
            if status is not UNKNOWN:
                packed += _LOOK.pack(
                    times[look],
                    _STATUSES.index(status) + _LEAST * least_at(arms, look),
                    view.deltas[look],
                    arms.release[look],
                    arms.baseline[look],
                    arms.release_n[look],
                    arms.baseline_n[look],
                )
        self._packed = packed[-self._most :]

    def looks(self) -> tuple[Observation, ...]:
        """Return them."""
        return tuple(
            Observation(time, _STATUSES[code % _LEAST], delta, release, baseline, n_t, n_c, code // _LEAST)
            for time, code, delta, release, baseline, n_t, n_c in _LOOK.iter_unpack(self._packed)
        )

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = type(self).__new__(type(self))
        clone._most, clone._packed = self._most, self._packed
        return clone
