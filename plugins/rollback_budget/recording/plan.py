"""What is recorded: which series, in which pace, of which versions, from when to when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from pydantic import TypeAdapter

from rollback_budget.clock import grid_floor
from rollback_budget.engine.preflight_forecast import FEWEST_LOOKS, LOOK_BACK
from rollback_budget.exceptions import RecordingError
from rollback_budget.model.metric import Metric
from rollback_budget.model.pace import paces_of, series_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.histogram_bounds import ratio_for

_METRICS = TypeAdapter(dict[str, Metric])


@dataclass(frozen=True)
class PaceRange:
    """What is recorded of the series of one pace: ``start < time <= end``, on the UTC grid of ``every``."""

    every: timedelta
    series: tuple[str, ...]
    start: datetime
    end: datetime

    @property
    def steps(self) -> int:
        """How many values each version should have."""
        return max((self.end - self.start) // self.every, 0)


@dataclass(frozen=True)
class RecordingPlan:
    """What is recorded.

    :param source_sha256: of what the source is asked: the same answers the same.
    """

    release: str
    baseline: str
    source_sha256: str
    paces: tuple[PaceRange, ...]

    @property
    def start(self) -> datetime:
        """When the earliest of it begins."""
        return min(pace.start for pace in self.paces)

    @property
    def end(self) -> datetime:
        """When the latest of it ends."""
        return max(pace.end for pace in self.paces)

    @property
    def whole_from(self) -> datetime:
        """From where on values of every pace are in."""
        return max(pace.start for pace in self.paces)

    def as_of(self, spec: RolloutSpec) -> datetime:
        """Return when the latest of it was decided, as the time of a look of ``watch.settle``."""
        shifts = {series_of(spec, pace): pace.shift for pace in paces_of(spec)}
        return max(pace.end + shifts[pace.series] for pace in self.paces)

    def requests(self, start: datetime, end: datetime) -> Iterator[SeriesRequest]:
        """Yield the requests, one a pace, for the values of ``start < time <= end``.

        The requests of adjoining pages adjoin, wherever the pages are cut.
        """
        for pace in self.paces:
            first = max(grid_floor(start, pace.every), pace.start)
            last = min(grid_floor(end, pace.every), pace.end)
            if first < last:
                yield SeriesRequest(pace.series, self.release, self.baseline, first, last, pace.every)

    def until(self, settled: datetime) -> RecordingPlan:
        """Return the plan without what comes after ``settled``.

        :raises RecordingError: nothing is left of it.
        """
        paces = tuple(
            replace(pace, end=min(pace.end, grid_floor(settled, pace.every))) for pace in self.paces
        )
        cut = replace(self, paces=paces)
        if not any(pace.steps for pace in paces):
            raise RecordingError(
                f"there is nothing to read after {self.start:%Y-%m-%d %H:%M} UTC: values are in until"
                f" {settled:%Y-%m-%d %H:%M:%S} UTC; begin earlier"
            )
        return cut


def plan_between(spec: RolloutSpec, start: datetime, end: datetime, *, now: datetime) -> RecordingPlan:
    """Return the plan for ``start < time <= end``, as far as values are in at ``now``.

    :raises RecordingError: none is.
    """
    return _plan(
        spec,
        now,
        [
            PaceRange(
                pace.every,
                series_of(spec, pace),
                grid_floor(start, pace.every),
                grid_floor(min(end, now - pace.lag), pace.every),
            )
            for pace in paces_of(spec)
        ],
    )


def plan_of_latest(
    spec: RolloutSpec, reach: timedelta, *, now: datetime, fewest_slow: int = FEWEST_LOOKS
) -> RecordingPlan:
    """Return the plan for the latest values that are in at ``now``.

    :param reach: so far back, and one value of each metric at least.
    :param fewest_slow: so many values of a metric that is slower than ``watch.step``, at least.
    """
    paces = []
    for pace in paces_of(spec):
        end = grid_floor(now - pace.lag, pace.every)
        steps = max(reach // pace.every, fewest_slow if pace.every > spec.watch.step else 1)
        paces.append(PaceRange(pace.every, series_of(spec, pace), end - steps * pace.every, end))
    return _plan(spec, now, paces)


def latest_of(spec: RolloutSpec, plan: RecordingPlan) -> tuple[datetime, datetime]:
    """Return the hour that a plan of the latest values ends with, as a forecast takes it.

    It ends when the latest of the plan was decided: what comes late is of earlier than that.
    """
    end = plan.as_of(spec)
    return max(plan.start, end - max(LOOK_BACK, spec.watch.step)), end


def with_versions(spec: RolloutSpec, release: str | None, baseline: str | None) -> RolloutSpec:
    """Return ``spec`` for the versions of a past rollout; None for those that it names itself.

    :raises RecordingError: both would be the same.
    """
    names = {"release": release, "baseline": baseline}
    spec = spec.model_copy(update={name: version for name, version in names.items() if version is not None})
    if spec.release == spec.baseline:
        raise RecordingError(f"release and baseline are both {spec.release}; name two versions")
    return spec


def _plan(spec: RolloutSpec, now: datetime, paces: list[PaceRange]) -> RecordingPlan:
    return RecordingPlan(spec.release, spec.baseline, _source_sha256(spec), tuple(paces)).until(now)


def _source_sha256(spec: RolloutSpec) -> str:
    """Digest what decides on the answers of a source: its settings, the metrics, and how fine they are."""
    source = "" if spec.source is None else spec.source.model_dump_json()
    asked = f"{source} {_METRICS.dump_json(spec.metrics).decode()} {ratio_for(spec)}"
    return sha256(asked.encode()).hexdigest()
