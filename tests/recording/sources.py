"""Sources for recordings: samples in memory, and one that stops answering."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import inf, isnan

from rollback_budget.engine import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.recording.plan import PaceRange, RecordingPlan
from rollback_budget.sources.base import SeriesRequest

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RELEASE, BASELINE = "model-v42", "model-v41"


class SamplesInMemory:
    """Answers with everything that it has, whatever is asked for; stops after so many answers."""

    def __init__(self, samples: Sequence[Sample], answers: float = inf) -> None:
        self.samples = samples
        self.answers = answers
        self.requests: list[SeriesRequest] = []

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        if len(self.requests) >= self.answers:
            raise SourceError("the backend is down", transient=True)
        self.requests.append(request)
        return self.samples


def make_plan(*paces: PaceRange, **changes: str) -> RecordingPlan:
    named = {"release": RELEASE, "baseline": BASELINE, "source_sha256": "0" * 64, **changes}
    return RecordingPlan(**named, paces=paces or (pace_of(1, 0, 60, "p95"),))


def pace_of(every_min: int, start_min: int, end_min: int, *series: str) -> PaceRange:
    """A pace that is recorded from and to so many minutes after noon."""
    return PaceRange(every_min * MINUTE, series, NOON + start_min * MINUTE, NOON + end_min * MINUTE)


def same(one: Sequence[Sample], other: Sequence[Sample]) -> bool:
    """Whether two series are the same, but for the faults, which files do not hold; NaN is NaN."""

    def plain(samples: Sequence[Sample]) -> list[Sample]:
        return [
            sample._replace(value=-1e308 if isnan(sample.value) else sample.value, fault=None)
            for sample in samples
        ]

    return plain(one) == plain(other)
