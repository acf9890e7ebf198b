"""Summaries: what of a recording a watch would have known, by metric and version."""

from __future__ import annotations

from dataclasses import dataclass, field

from rollback_budget.engine.frame import frame_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.recording.page import Page
from rollback_budget.recording.plan import RecordingPlan


@dataclass
class SeriesSummary:
    """One metric of one version.

    :param samples: how many came; a histogram has many for one step.
    :param steps: how many values there should be.
    :param known: how many of them there are; a missing one and one that cannot be are unknown.
    :param faults: why a sample is unknown although something came, and how many of them.
    """

    metric: str
    version: str
    steps: int
    samples: int = 0
    known: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def unknown(self) -> int:
        """How many values are missing, or cannot be."""
        return max(self.steps - self.known, 0)


class RecordingSummary:
    """Counts what comes, page by page."""

    def __init__(self, spec: RolloutSpec, plan: RecordingPlan) -> None:
        self._spec = spec
        self._series = {
            (series, version): SeriesSummary(series, version, pace.steps)
            for pace in plan.paces
            for series in pace.series
            for version in (plan.release, plan.baseline)
        }

    @property
    def series(self) -> list[SeriesSummary]:
        """By metric, then version: the release first."""
        return sorted(self._series.values(), key=lambda one: one.metric)

    @property
    def samples(self) -> int:
        """How many came in all."""
        return sum(one.samples for one in self._series.values())

    def add(self, page: Page) -> None:
        """Count one page, as the engine reads it."""
        for sample in page.samples:
            one = self._series[sample.series, sample.version]
            one.samples += 1
            if sample.fault is not None:
                one.faults[sample.fault] = one.faults.get(sample.fault, 0) + 1
        for series, version, times in _known(self._spec, page):
            self._series[series, version].known += len(times)


def _known(spec: RolloutSpec, page: Page) -> list[tuple[str, str, set[int]]]:
    """Return the times at which the engine has a value or a histogram."""
    frames = frame_of(spec, page.samples, start=page.start, end=page.end, strict=False).paces
    found = []
    for frame, (series, arms) in ((one, pair) for one in frames for pair in one.arms.items()):
        of_versions = (
            (spec.release, arms.release, arms.release_buckets),
            (spec.baseline, arms.baseline, arms.baseline_buckets),
        )
        for version, values, buckets in of_versions:
            times = {time for time, value in zip(frame.times, values, strict=True) if value == value}
            times.update(time for time, histogram in zip(frame.times, buckets, strict=False) if histogram)
            found.append((series, version, times))
    return found


def nothing_known(series: list[SeriesSummary]) -> list[SeriesSummary]:
    """Return those of which a watch would have known nothing."""
    return [one for one in series if not one.known]
