"""``rollback-budget record``: the metric source of a budget, read into a file of recorded series."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import budget_argument, iso, positive_duration, utc_second
from rollback_budget.cli.source_reading import nothing_came, read_source, version_options
from rollback_budget.cli.time_range import range_options, time_range
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.recording.parts import Asked, RecordingInParts
    from rollback_budget.recording.plan import RecordingPlan
    from rollback_budget.recording.summary import RecordingSummary

#: So many different faults of one series are said.
MOST_FAULTS = 3


@click.command()
@budget_argument
@range_options
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to: .csv or .parquet.",
)
@version_options
@click.option(
    "--page",
    metavar="DURATION",
    default="6h",
    show_default=True,
    callback=positive_duration,
    help="How much is asked for in one request.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE, once the new one is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print what was recorded as one JSON object.")
def record(
    budget: Path,
    from_: str | None,
    to: str | None,
    last: str | None,
    output: Path,
    release: str | None,
    baseline: str | None,
    page: timedelta,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Record the metric source of BUDGET into a file that `replay`, `backtest` and `design-effect` read.

    Reads every metric of the budgets for both versions, in pages, from whatever the budget names as its
    source. Connections come from the environment (AIRFLOW_CONN_<ID>) or the secrets backend of Airflow's
    configuration; no Airflow process and no database of Airflow's is needed. Values that are not in yet
    (`watch.settle`, `source.watermark`) are left out.

    --from is rounded down to a whole step of each metric, so that an hourly metric may begin up to an hour
    before.

    Pages lie in FILE.part until all are there. After Ctrl-C, a kill, or when the source does not answer, give
    the same command again: it goes on where it was.

    \b
    Examples:
      rollback-budget record budgets/model-v42.yaml --last 24h -o yesterday.csv
      rollback-budget record budgets/model-v42.yaml --from 2026-09-16T12:00Z --to 2026-09-17T12:00Z \\
          --release model-v41 --baseline model-v40 -o rollouts/2026-09-16.parquet

    Exits 0 when the file is whole, 1 when it is not, or when the source has nothing at all, 130 after
    Ctrl-C.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.clock import utc_now
    from rollback_budget.recording.parts import Asked, only_process
    from rollback_budget.recording.plan import plan_between, with_versions
    from rollback_budget.recording.summary import RecordingSummary
    from rollback_budget.recording.writer import check_format

    check_format(output)
    _check_folder(output)
    now = utc_now()
    wanted = time_range(from_, to, last, now)
    if wanted is None:
        raise click.UsageError("say what to record: --last 24h, or --from TIME --to TIME")
    spec = with_versions(load_budget(budget), release, baseline)
    _check_is_not_source(spec, output)
    plan = plan_between(spec, wanted.start, wanted.end, now=now)
    with only_process(output):
        recording = _recording(spec, output, Asked(*wanted.asked), plan, page=page, overwrite=overwrite)
        summary = RecordingSummary(spec, recording.plan)
        for one in recording.pages():
            summary.add(one)
        if not summary.samples:
            recording.discard()
            raise click.ClickException(f"nothing is recorded: {nothing_came(recording.plan)}")
        recording.finish()
    _say(output, recording.plan, summary, as_json=as_json)


def _recording(
    spec: RolloutSpec, output: Path, asked: Asked, plan: RecordingPlan, *, page: timedelta, overwrite: bool
) -> RecordingInParts:
    """Return a recording with every page, begun anew or gone on with; raises where it is interrupted."""
    from rollback_budget.exceptions import RecordingError, SourceError
    from rollback_budget.recording.parts import RecordingInParts

    recording = RecordingInParts.resume(output, asked, plan)
    if output.exists() and not overwrite and not (recording and recording.was_moved()):
        raise RecordingError(f"{output}: there is such a file; give another name, or --overwrite")
    if recording is not None:
        _say_resumed(recording)
        if recording.is_complete:
            return recording

    def begin(settled: RecordingPlan) -> RecordingInParts:
        nonlocal recording
        if recording is None:
            recording = RecordingInParts.begin(output, asked, settled)
        return recording

    try:
        return read_source(spec, plan if recording is None else recording.plan, begin, page=page)
    except (SourceError, RecordingError) as error:
        if recording is None or recording.is_empty:
            _discard(recording)
            raise
        raise RecordingError(f"{error}\n{_stopped(recording)}") from error
    except KeyboardInterrupt:
        if recording is None or recording.is_empty:
            _discard(recording)
        else:
            click.echo(f"\n{_stopped(recording)}", err=True)
        raise


def _discard(recording: RecordingInParts | None) -> None:
    if recording is not None:
        recording.discard()


def _check_folder(output: Path) -> None:
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}; make it first", param_hint="--output")
    if output.is_dir():
        raise click.BadParameter(f"{output} is a folder; name a file in it", param_hint="--output")


def _check_is_not_source(spec: RolloutSpec, output: Path) -> None:
    """Refuse to write over the file that is read: what it has beyond the range would be lost."""
    from rollback_budget.model.source import RecordedSource

    if not isinstance(spec.source, RecordedSource) or not output.exists():
        return
    source = Path(spec.source.path)
    if source.exists() and source.samefile(output):
        raise click.BadParameter(
            f"{output} is the source that is read; name another file", param_hint="--output"
        )


def _say_resumed(recording: RecordingInParts) -> None:
    plan = recording.plan
    click.echo(
        f"goes on with {recording.folder}: {utc_second(plan.start)} to {utc_second(plan.end)},"
        f" read up to {utc_second(recording.done_until)}",
        err=True,
    )


def _stopped(recording: RecordingInParts) -> str:
    plan = recording.plan
    return (
        f"stopped: {recording.folder} holds what was read up to {utc_second(recording.done_until)}, of"
        f" {utc_second(plan.start)} to {utc_second(plan.end)}; give the same command again to go on"
    )


def warnings_of(summary: RecordingSummary) -> list[str]:
    """Return what of a recording a watch would not have known, one sentence each."""
    said = []
    for one in summary.series:
        name = f"{one.metric} of {one.version}"
        if not one.samples:
            said.append(f"{name}: no sample came; all of it is unknown")
        elif not one.known:
            said.append(f"{name}: not a single known value in {plural(one.samples, 'sample')}")
        most = sorted(one.faults.items(), key=lambda item: -item[1])
        said += [f"{name}: {plural(count, 'sample')} unknown: {fault}" for fault, count in most[:MOST_FAULTS]]
        if len(most) > MOST_FAULTS:
            said.append(f"{name}: {plural(len(most) - MOST_FAULTS, 'other reason')} for unknown samples")
    return said


def summary_json(output: Path, plan: RecordingPlan, summary: RecordingSummary) -> dict[str, Any]:
    """Return what was recorded as JSON."""
    return {
        "file": str(output),
        "release": plan.release,
        "baseline": plan.baseline,
        "start": iso(plan.start),
        "end": iso(plan.end),
        "samples": summary.samples,
        "series": [
            {
                "metric": one.metric,
                "version": one.version,
                "samples": one.samples,
                "known": one.known,
                "unknown": one.unknown,
                "faults": [{"fault": fault, "samples": count} for fault, count in one.faults.items()],
            }
            for one in summary.series
        ],
        "warnings": warnings_of(summary),
    }


def _say(output: Path, plan: RecordingPlan, summary: RecordingSummary, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary_json(output, plan, summary), indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    click.echo(
        f"{output}: {plural(summary.samples, 'sample')} of {printable(plan.release)} against"
        f" {printable(plan.baseline)}, {utc_second(plan.start)} to {utc_second(plan.end)}\n"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("metric", "version", "samples", "known", "unknown"):
        is_name = heading in ("metric", "version")
        table.add_column(heading, justify="left" if is_name else "right", overflow="fold")
    for one in summary.series:
        counts = (one.samples, one.known, one.unknown)
        table.add_row(printable(one.metric), printable(one.version), *map(str, counts))
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 100)
    console.print(table)
    for warning in warnings_of(summary):
        click.echo(f"warning: {printable(warning)}", err=True)
