"""A recorded time without change, laid out as looks, and what makes one unfit for a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from rollback_budget.engine.frame import Frame, frame_of
from rollback_budget.engine.record_span import as_of_record, spans_of, start_of_record
from rollback_budget.engine.sample import Sample
from rollback_budget.engine.time_us import duration_to_us, us_to_datetime
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.duration import say_duration
from rollback_budget.model.pace import Pace, paces_of, series_of
from rollback_budget.model.spec import RolloutSpec

DAY = timedelta(days=1)
#: A day, with a little missing at its ends.
LEAST_RECORDED = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class NoChangeRecord:
    """Looks of a time in which both versions were equally good.

    :param start: one step before the first look.
    :param frame: of every pace; a look a step, without holes in its times.
    """

    spec: RolloutSpec
    samples: Sequence[Sample]
    start: datetime
    frame: Frame

    @property
    def end(self) -> datetime:
        """The time of the last look."""
        return us_to_datetime(max(frame.times[-1] for frame in self.frame.paces if frame.times))

    @property
    def recorded(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    @property
    def paces(self) -> list[tuple[Pace, Frame]]:
        """Every pace of the budgets with its looks; these may be none."""
        return list(zip(paces_of(self.spec), self.frame.paces, strict=True))


def record_of(spec: RolloutSpec, samples: Sequence[Sample]) -> NoChangeRecord:
    """Lay out recorded samples.

    :raises SeriesError: one version is missing, there is less than about a day, or the looks are not a step
        apart.
    """
    wanted = {budget.series for budget in spec.budgets}
    ours = [sample for sample in samples if sample.series in wanted]
    for role, version in (("release", spec.release), ("baseline", spec.baseline)):
        if not any(sample.version == version for sample in ours):
            there = ", ".join(sorted({sample.version for sample in samples})[:5]) or "nothing"
            raise SeriesError(
                f"no sample of {version}, the {role}, for any budget (versions there: {there}); record an A/A"
                " test under both names, or the baseline's traffic divided in two"
            )
    spans = spans_of(sample for sample in ours if sample.version in (spec.release, spec.baseline))
    start, end = start_of_record(spec, spans), max(last for _, last in spans.values())
    if end - start < LEAST_RECORDED:
        raise SeriesError(
            f"{say_duration(end - start)} recorded, and a suggestion needs a day or more without change:"
            " chance and the time of day cannot be told apart in less; a week is better"
        )
    frame = frame_of(spec, ours, start=start, end=end, as_of=as_of_record(spec, spans))
    record = NoChangeRecord(spec, ours, start, frame)
    for pace, laid_out in record.paces:
        step = duration_to_us(pace.every)
        if any(later - time != step for time, later in pairwise(laid_out.times)):
            raise SeriesError(_not_a_step_apart(spec, pace))
    return record


def _not_a_step_apart(spec: RolloutSpec, pace: Pace) -> str:
    every = say_duration(pace.every)
    names = {series.partition(":")[0] for series in series_of(spec, pace)}
    slow = sorted(name for name in names if spec.metric(name).every is not None)
    if slow:
        return (
            f"samples of {', '.join(slow)} are not {every} apart, as its `every` says; set that to the step"
            " of the record, or record it anew"
        )
    return (
        f"its samples are not {every} apart, as `watch.step` says; set that to the step of the record, or"
        " record it anew"
    )
