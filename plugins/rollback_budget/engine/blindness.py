"""Blindness: where an area in which no budget had a known look for too long is found (design 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from rollback_budget.engine.time_us import duration_to_us
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import OnBlind


class LatestLooks(Protocol):
    """What one budget found in the latest chunk of a frame, by the places of the looks in the frame."""

    unknown: tuple[int, ...]
    suspended: tuple[int, ...]


class FirstBlind(NamedTuple):
    """The first look at which an area was blind for too long.

    :param look: its place in the frame.
    :param since: time of the area's latest known look, in microseconds.
    """

    look: int
    since: int
    area: str


class Blindness:
    """Follows when each area had its latest known look.

    A spec with ``on_blind: continue`` has nothing to follow.

    :param budgets_from: by budget id, from where the budget counts, in microseconds.
    :param blind_from: from where blindness counts: later after a decision to go on.
    """

    def __init__(self, spec: RolloutSpec, budgets_from: Mapping[str, int], blind_from: int) -> None:
        self._blind_after = duration_to_us(spec.watch.blind_after)
        areas: dict[str, _Area] = {}
        if spec.watch.on_blind is not OnBlind.CONTINUE:
            for place, budget in enumerate(spec.budgets):
                area = areas.setdefault(budget.area, _Area(budget.area, blind_from, ()))
                area.known = max(area.known, budgets_from[budget.id])
                area.budgets += (place,)
        self._areas = list(areas.values())

    def first(
        self, looks: Sequence[LatestLooks], times: list[int], first: int, stop: int
    ) -> FirstBlind | None:
        """Return the first look from ``first`` to ``stop - 1`` at which an area is blind; None without one.

        :param looks: of every budget, in the spec's order.
        """
        found = [
            blind
            for area in self._areas
            if (blind := area.first_blind(times, first, area.unseen(looks, stop), self._blind_after))
        ]
        return min(found, key=lambda blind: blind.look) if found else None

    def advance(self, looks: Sequence[LatestLooks], times: list[int], first: int, stop: int) -> None:
        """Go on over the looks ``first`` to ``stop - 1``, at least one."""
        for area in self._areas:
            area.advance(times, first, stop, area.unseen(looks, stop))

    def copy(self) -> Self:
        """Return one that goes on from here on its own."""
        clone = copy(self)
        clone._areas = [copy(area) for area in self._areas]
        return clone


@dataclass(slots=True)
class _Area:
    """When something was last seen of one area.

    :param known: time of the latest known look of any of its budgets; before that, from where it counts.
    :param budgets: their places in the spec.
    """

    area: str
    known: int
    budgets: tuple[int, ...]

    def unseen(self, looks: Sequence[LatestLooks], stop: int) -> list[int]:
        """Return the looks before ``stop`` that are unknown to every budget that is not suspended.

        A look at which every budget of the area is suspended is not among them.
        """
        own = [looks[place] for place in self.budgets]
        if not all(budget.unknown or budget.suspended for budget in own):
            return []
        each = [{*budget.unknown, *budget.suspended} for budget in own]
        unseen = each[0].intersection(*each[1:])
        unseen -= set(own[0].suspended).intersection(*(budget.suspended for budget in own[1:]))
        return sorted(look for look in unseen if look < stop)

    def first_blind(
        self, times: list[int], first: int, unseen: list[int], blind_after: int
    ) -> FirstBlind | None:
        """Return the first look at which nothing was seen for ``blind_after``; None without one.

        :param unseen: ascending.
        """
        known = self.known
        for look in unseen:
            if look > first:
                known = max(known, times[look - 1])
            if times[look] - known >= blind_after:
                return FirstBlind(look, known, self.area)
            first = look + 1
        return None

    def advance(self, times: list[int], first: int, stop: int, unseen: list[int]) -> None:
        """Go on over the looks ``first`` to ``stop - 1``, at least one."""
        if not unseen:
            self.known = max(self.known, times[stop - 1])
            return
        places = set(unseen)
        seen = next((look for look in range(stop - 1, first - 1, -1) if look not in places), None)
        if seen is not None:
            self.known = max(self.known, times[seen])
