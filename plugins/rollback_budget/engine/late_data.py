"""Late data: samples that come, or change, after the look that they belong to was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import nan
from typing import NamedTuple

from rollback_budget.engine.frame import Arms, domain_of
from rollback_budget.engine.histogram import FINITE
from rollback_budget.engine.sample import Sample
from rollback_budget.model.spec import RolloutSpec

_Place = tuple[datetime, str, str, float | None]
#: Value and ``n``.
_Known = tuple[float, float | None]


class LateLook(NamedTuple):
    """One look of one series that is not what it was when it was folded.

    :param before: value and ``n`` by version, as they were; a version that had none is not there.
    :param now: as they are now.
    """

    time: datetime
    series: str
    before: Mapping[str, _Known]
    now: Mapping[str, _Known]


class LateData:
    """Remembers the newest samples that were folded, to notice when a later reading of them differs.

    The first reading is where it begins: what came late before that cannot be known.

    :param reach: how far back it remembers, and how far back a reading has to start.
    """

    def __init__(self, reach: timedelta) -> None:
        self.reach = reach
        #: Of the latest reading.
        self.looks: tuple[LateLook, ...] = ()
        self._known: dict[_Place, _Known] = {}
        self._since: datetime | None = None
        self._until: datetime | None = None

    def notice(self, samples: Iterable[Sample], until: datetime) -> list[Sample]:
        """Return which of ``samples`` come late or have changed, each change once.

        :param until: up to where looks are decided after this reading.
        """
        self.looks = ()
        if not self.reach:
            return []
        oldest, before = until - self.reach, self._known
        known = dict(before)
        late = []
        for sample in samples:
            place = (sample.time, sample.series, sample.version, sample.le)
            if self._is_decided(sample.time) and not _same(before.get(place), sample):
                late.append(sample)
            if oldest < sample.time <= until:
                known[place] = (sample.value, sample.n)
        self.looks = tuple(
            LateLook(time, series, _versions(before, time, series), _versions(known, time, series))
            for time, series in dict.fromkeys((one.time, one.series) for one in late if one.le is None)
        )
        self._known = known
        self._known = {place: known for place, known in self._known.items() if place[0] > oldest}
        self._since = oldest if self._since is None else max(self._since, oldest)
        self._until = until
        return late

    def _is_decided(self, time: datetime) -> bool:
        return self._since is not None and self._until is not None and self._since < time <= self._until


def arms_of(spec: RolloutSpec, metric: str, known: Mapping[str, _Known], before: Arms | None = None) -> Arms:
    """Return one look of a late look's values as arms; what can be no value is unknown.

    :param before: the same look read earlier: what is unknown now does not undo what was known.
    """
    domain = domain_of(spec.metric(metric).kind)
    (release, of_release), (baseline, of_baseline) = (
        _value(domain, *known.get(version, (nan, nan))) for version in (spec.release, spec.baseline)
    )
    if before is not None and release != release:
        release, of_release = before.release[0], before.release_n[0]
    if before is not None and baseline != baseline:
        baseline, of_baseline = before.baseline[0], before.baseline_n[0]
    return Arms([release], [of_release], [baseline], [of_baseline])


def _value(domain: tuple[float, float], value: float, n: float | None) -> tuple[float, float]:
    least, most = domain
    if n is not None and n == n and not 0.0 <= n <= FINITE:
        return nan, nan
    return (value if least <= value <= most else nan), (nan if n is None else n)


def _versions(known: Mapping[_Place, _Known], time: datetime, series: str) -> dict[str, _Known]:
    return {
        place[2]: value for place, value in known.items() if place[:2] == (time, series) and place[3] is None
    }


def _same(before: _Known | None, sample: Sample) -> bool:
    if before is None:
        return False
    value, n = before
    return (value == sample.value or (value != value and sample.value != sample.value)) and n == sample.n
