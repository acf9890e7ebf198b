"""Blindness: an area in which no budget had a known look for too long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class AreaLastSeen:
    """When something was last seen of one area.

    :param known: time of the latest known look of any of its budgets; before that, where the clock began.
    :param budgets: their places in the spec.
    """

    area: str
    known: int
    budgets: tuple[int, ...]

    def first_blind(
        self, times: list[int], first: int, dark: list[int], blind_after: int
    ) -> tuple[int, int] | None:
        """Return the first look at which nothing was seen for ``blind_after``, and since when.

        :param dark: the looks that are unknown to every budget of the area, ascending.
        """
        known = self.known
        for look in dark:
            if look > first:
                known = max(known, times[look - 1])
            if times[look] - known >= blind_after:
                return look, known
            first = look + 1
        return None

    def advance(self, times: list[int], first: int, stop: int, dark: list[int]) -> None:
        """Go on over the looks ``first`` to ``stop - 1``, at least one."""
        if not dark:
            self.known = max(self.known, times[stop - 1])
            return
        unseen = set(dark)
        seen = next((look for look in range(stop - 1, first - 1, -1) if look not in unseen), None)
        if seen is not None:
            self.known = max(self.known, times[seen])
