"""What commands share that read a budget's metric source: options, progress, and a clean standard output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from rollback_budget.cli.progress import progress_of

if TYPE_CHECKING:
    from rollback_budget.cli.time_range import TimeRange
    from rollback_budget.engine.sample import Sample
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.recording.plan import RecordingPlan
    from rollback_budget.recording.read import Recording

_Command = TypeVar("_Command", bound=Callable[..., object])
R = TypeVar("R", bound="Recording")


def version_options(command: _Command) -> _Command:
    """Add ``--release`` and ``--baseline``, for the versions of a past rollout."""
    for option in (
        click.option(
            "--baseline", metavar="VERSION", help="The baseline of a past rollout, instead of the budget's."
        ),
        click.option(
            "--release", metavar="VERSION", help="The release of a past rollout, instead of the budget's."
        ),
    ):
        command = option(command)
    return command


def read_source(
    spec: RolloutSpec,
    plan: RecordingPlan,
    begin: Callable[[RecordingPlan], R],
    *,
    page: timedelta | None = None,
    to_watermark: bool = True,
) -> R:
    """Read ``plan`` from the source of ``spec`` into what ``begin`` makes; raises as the source does."""
    from rollback_budget.recording.read import PAGE

    minute = timedelta(minutes=1)
    with _only_ours_on_stdout(), progress_of("reading", (plan.end - plan.start) / minute) as bar:
        from rollback_budget.hooks.recording import record_source, require_connection

        require_connection(spec)
        return asyncio.run(
            record_source(
                spec,
                plan,
                begin,
                page=page or PAGE,
                on_page=lambda until: bar.reach((until - plan.start) / minute),
                to_watermark=to_watermark,
            )
        )


def read_samples(spec: RolloutSpec, plan: RecordingPlan, *, to_watermark: bool = True) -> list[Sample]:
    """Return the samples of ``plan`` from the source of ``spec``, at least one.

    :raises SourceError: it does not answer.
    :raises SeriesError: it has none.
    """
    from rollback_budget.exceptions import SeriesError
    from rollback_budget.recording.read import RecordingInMemory

    samples = read_source(spec, plan, RecordingInMemory, to_watermark=to_watermark).samples
    if not samples:
        raise SeriesError(nothing_came(plan))
    return samples


class Recorded(NamedTuple):
    """A time that was recorded, in a file or by the metric source.

    :param place: where samples came from, for messages.
    """

    samples: list[Sample]
    place: str
    start: datetime
    end: datetime


def read_recorded(spec: RolloutSpec, series: Path | None, wanted: TimeRange | None) -> Recorded:
    """Return a file of recorded series, or a range of time of the source of ``spec``.

    :raises click.UsageError: both are given, or none.
    :raises SeriesError: there is nothing in it.
    """
    from rollback_budget.clock import utc_now
    from rollback_budget.engine.record_span import spans_of, start_of_record
    from rollback_budget.recording.plan import plan_between
    from rollback_budget.sources.recorded import read_series

    if series is not None and wanted is None:
        samples = read_series(series)
        start = start_of_record(spec, spans_of(samples))
        return Recorded(samples, str(series), start, max(sample.time for sample in samples))
    if wanted is None or series is not None:
        raise click.UsageError("give either --series FILE, or a time of the metric source, such as --last 7d")
    plan = plan_between(spec, wanted.start, wanted.end, now=utc_now())
    return Recorded(read_samples(spec, plan), "the metric source", plan.whole_from, plan.end)


def survey_source(spec: RolloutSpec, plan: RecordingPlan) -> list[str]:
    """Return what about the series of ``plan`` is doubtful, by the source of ``spec``, a sentence each."""
    with _only_ours_on_stdout():
        from rollback_budget.hooks.metric_source import survey_once

        return list(asyncio.run(survey_once(spec, *plan.requests(plan.start, plan.end))))


def nothing_came(plan: RecordingPlan) -> str:
    """Say that a source has nothing of what was asked for."""
    from rollback_budget.cli.common import utc_second

    series = ", ".join(name for pace in plan.paces for name in pace.series)
    return (
        f"the source has no sample of {plan.release} or {plan.baseline} from {utc_second(plan.start)} to"
        f" {utc_second(plan.end)} ({series}); check the names of the versions, the queries and the time"
    )


@contextmanager
def _only_ours_on_stdout() -> Iterator[None]:
    """Let Airflow, which logs to the standard output that it finds when it starts, log to stderr."""
    with redirect_stdout(sys.stderr):
        yield
