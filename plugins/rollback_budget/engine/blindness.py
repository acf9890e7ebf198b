"""Blindness: where an area in which no budget had a known look for too long is found (design 5.1).

An area's budgets may be looked at in several paces. It is blind when in each of them nothing was known for as
long as that pace allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind


class LatestLooks(Protocol):
    """What one budget found in the latest chunk of a frame, by the places of the looks in the frame."""

    unknown: tuple[int, ...]
    suspended: tuple[int, ...]

    def is_suspended_at(self, time: int) -> bool:
        """Whether a look at ``time`` would be suspended, in microseconds."""
        ...


#: How much later a look of each pace is decided than one of ``watch.settle``, and what its budgets found.
Looks = Sequence[tuple[int, Sequence[LatestLooks]]]


class FirstBlind(NamedTuple):
    """The first look at which an area was blind for too long.

    :param look: its place in the frame.
    :param since: time of the area's latest known look, in microseconds.
    """

    look: int
    since: int
    area: str


class BlindFrom(NamedTuple):
    """How blindness of one budget counts.

    :param pace: the pace of the budget, by its place.
    :param known: from where it counts, in microseconds: later after a decision to go on.
    :param after: how long nothing may be known, in microseconds.
    """

    pace: int
    known: int
    after: int


class Blindness:
    """Follows when each area had its latest known look.

    A spec with ``on_blind: continue`` has nothing to follow.

    :param budgets: of every budget, in the spec's order.
    """

    def __init__(self, spec: RolloutSpec, budgets: Sequence[BlindFrom]) -> None:
        areas: dict[str, dict[int, _Part]] = {}
        places: dict[int, int] = {}
        follows = spec.watch.on_blind is not OnBlind.CONTINUE
        for budget, counts in zip(spec.budgets, budgets, strict=True) if follows else ():
            place = places[counts.pace] = places.get(counts.pace, -1) + 1
            parts = areas.setdefault(budget.area, {})
            part = parts.setdefault(counts.pace, _Part(counts.known, counts.after))
            part.known = max(part.known, counts.known)
            part.budgets += (place,)
        self._areas = [_Area(area, parts) for area, parts in areas.items()]

    def first(self, pace: int, looks: Looks, times: list[int], first: int, stop: int) -> FirstBlind | None:
        """Return the first look from ``first`` to ``stop - 1`` of a pace at which an area is blind.

        :param looks: of every budget, pace by pace, in the spec's order.
        :return: None without one.
        """
        found = [blind for area in self._areas if (blind := area.first(pace, looks, times, first, stop))]
        return min(found, key=lambda blind: blind.look) if found else None

    def advance(
        self, pace: int, looks: Sequence[LatestLooks], times: list[int], first: int, stop: int
    ) -> None:
        """Go on over the looks ``first`` to ``stop - 1`` of a pace, at least one."""
        for area in self._areas:
            if pace in area.parts:
                area.parts[pace].advance(looks, times, first, stop)

    def now(self, looks: Looks, clock: int) -> tuple[str, int] | None:
        """Return an area that is blind at the latest looks, and since when; None without one.

        :param looks: as of :meth:`first`.
        :param clock: when they are decided, as the time of a look of ``watch.settle``.
        """
        for area in self._areas:
            blind = [part for at, part in area.parts.items() if not area.is_suspended(at, looks, clock)]
            if blind and all(part.is_blind for part in blind):
                return area.name, max(part.known for part in blind)
        return None

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._areas = [
            _Area(area.name, {pace: copy(part) for pace, part in area.parts.items()}) for area in self._areas
        ]
        return clone


@dataclass(slots=True)
class _Part:
    """When something was last seen of the budgets of an area that are in one pace.

    :param known: time of the latest known look of any of them; before that, from where they count.
    :param after: how long nothing may be known.
    :param budgets: their places among the budgets of the pace.
    :param is_blind: whether nothing was known for so long at the latest look.
    """

    known: int
    after: int
    budgets: tuple[int, ...] = ()
    is_blind: bool = False

    def unseen(self, looks: Sequence[LatestLooks], stop: int) -> list[int]:
        """Return the looks before ``stop`` that are unknown to every budget that is not suspended.

        A look at which every one is suspended is not among them.
        """
        own = [looks[place] for place in self.budgets]
        if not all(budget.unknown or budget.suspended for budget in own):
            return []
        each = [{*budget.unknown, *budget.suspended} for budget in own]
        unseen = each[0].intersection(*each[1:]) - self._suspended(own)
        return sorted(look for look in unseen if look < stop)

    def blind(self, times: list[int], first: int, unseen: list[int]) -> Iterator[tuple[int, int]]:
        """Yield the looks at which nothing was seen for ``after``, and since when.

        :param unseen: ascending.
        """
        known = self.known
        for look in unseen:
            if look > first:
                known = max(known, times[look - 1])
            if times[look] - known >= self.after:
                yield look, known
            first = look + 1

    def advance(self, looks: Sequence[LatestLooks], times: list[int], first: int, stop: int) -> None:
        """Go on over the looks ``first`` to ``stop - 1``, at least one."""
        unseen = self.unseen(looks, stop)
        if not unseen:
            self.known, self.is_blind = max(self.known, times[stop - 1]), False
            return
        places = set(unseen)
        seen = next((look for look in range(stop - 1, first - 1, -1) if look not in places), None)
        if seen is not None:
            self.known = max(self.known, times[seen])
        self.is_blind = stop - 1 in places and times[stop - 1] - self.known >= self.after

    @staticmethod
    def _suspended(own: Sequence[LatestLooks]) -> set[int]:
        return set(own[0].suspended).intersection(*(budget.suspended for budget in own[1:]))


@dataclass(slots=True)
class _Area:
    """The parts of an area, by pace."""

    name: str
    parts: dict[int, _Part]

    def first(self, pace: int, looks: Looks, times: list[int], first: int, stop: int) -> FirstBlind | None:
        """Return the first look of a pace at which the area is blind, the other paces standing still.

        A part that is suspended hides nothing of what the others do not see.
        """
        part = self.parts.get(pace)
        if part is None:
            return None
        shift, own = looks[pace]
        others = [at for at in self.parts if at != pace]
        for look, known in part.blind(times, first, part.unseen(own, stop)):
            watching = [at for at in others if not self.is_suspended(at, looks, times[look] + shift)]
            if all(self.parts[at].is_blind for at in watching):
                since = max(known, *(self.parts[at].known for at in watching)) if watching else known
                return FirstBlind(look, since, self.name)
        return None

    def is_suspended(self, pace: int, looks: Looks, clock: int) -> bool:
        """Whether every budget of a part would be suspended in a look that is decided at ``clock``."""
        shift, own = looks[pace]
        return all(own[place].is_suspended_at(clock - shift) for place in self.parts[pace].budgets)
