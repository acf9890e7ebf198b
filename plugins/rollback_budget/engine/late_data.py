"""Late data: samples that come, or change, after the look that they belong to was decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from rollback_budget.engine.sample import Sample

_Place = tuple[datetime, str, str, float | None]


class LateData:
    """Remembers the newest samples that were folded, to notice when a later reading of them differs.

    The first reading is where it begins: what came late before that cannot be known.

    :param reach: how far back it remembers, and how far back a reading has to start.
    """

    def __init__(self, reach: timedelta) -> None:
        self.reach = reach
        self._known: dict[_Place, tuple[float, float | None]] = {}
        self._since: datetime | None = None
        self._until: datetime | None = None

    def notice(self, samples: Iterable[Sample], until: datetime) -> list[Sample]:
        """Return which of ``samples`` come late or have changed, each change once.

        :param until: up to where looks are decided after this reading.
        """
        if not self.reach:
            return []
        oldest = until - self.reach
        late = []
        for sample in samples:
            place = (sample.time, sample.series, sample.version, sample.le)
            if self._is_decided(sample.time) and not _same(self._known.get(place), sample):
                late.append(sample)
            if oldest < sample.time <= until:
                self._known[place] = (sample.value, sample.n)
        self._known = {place: known for place, known in self._known.items() if place[0] > oldest}
        self._since = oldest if self._since is None else max(self._since, oldest)
        self._until = until
        return late

    def _is_decided(self, time: datetime) -> bool:
        return self._since is not None and self._until is not None and self._since < time <= self._until


def _same(before: tuple[float, float | None] | None, sample: Sample) -> bool:
    if before is None:
        return False
    value, n = before
    return (value == sample.value or (value != value and sample.value != sample.value)) and n == sample.n
