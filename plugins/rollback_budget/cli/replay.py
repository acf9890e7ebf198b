"""``rollback-budget replay``: the verdict of a budget on a recorded series."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import budget_argument, series_option, time_option
from rollback_budget.cli.source_reading import read_samples, version_options
from rollback_budget.cli.time_range import range_options, time_range

if TYPE_CHECKING:
    from rollback_budget.engine.evaluation import BudgetEvaluation, Evaluation
    from rollback_budget.engine.sample import Sample
    from rollback_budget.model.spec import RolloutSpec


@click.command()
@budget_argument
@series_option("The recorded series: .csv, .jsonl or .parquet.")
@click.option("--live", is_flag=True, help="Read the metric source of the budget instead of a file.")
@range_options
@version_options
@click.option("--json", "as_json", is_flag=True, help="Print the evaluation as one JSON object.")
@click.option(
    "--keep-going", is_flag=True, help="Do not stop at the verdict: list every breach in the window."
)
@time_option(
    "--start",
    help_text="When the window begins; by default one step before the earliest sample, so that it counts.",
)
@click.pass_context
def replay(
    ctx: click.Context,
    budget: Path,
    series: Path | None,
    live: bool,
    from_: str | None,
    to: str | None,
    last: str | None,
    release: str | None,
    baseline: str | None,
    as_json: bool,
    keep_going: bool,
    start: datetime | None,
) -> None:
    """Replay a recorded series against BUDGET and print the verdict that a live watch would have reached.

    Needs no database and no Airflow. Replays the window of the budget, or as much of it as was recorded.

    With --live the metric source of the budget is read, as `record` reads it: by default the last window of
    the budget, as far as values are in. --last and --from say --live, too.

    The series has one row a sample: time (ISO 8601 with Z or an offset), metric (metric:slice for a slice),
    version (as the budget names them), value, and optionally n (events behind the value), le (the bound of a
    histogram) and judge (what gave a score). An empty value or NaN is unknown, and so is a row that is not
    there. Other columns are ignored.

    \b
      time,metric,version,value,n
      2026-10-01T12:01:00Z,p95,model-v42,2.10,194
      2026-10-01T12:01:00Z,p95,model-v41,1.60,193

    \b
    As JSON Lines, one object a line:
      {"time": "2026-10-01T12:01:00Z", "metric": "p95", "version": "model-v42", "value": 2.1, "n": 194}

    \b
    Examples:
      rollback-budget replay budgets/model-v42.yaml --series last-night.csv
      rollback-budget replay budgets/model-v42.yaml --series last-night.csv --json --keep-going
      rollback-budget replay budgets/model-v42.yaml --last 24h
      rollback-budget replay budgets/model-v42.yaml --from 2026-09-16T12:00Z --to 2026-09-17T12:00Z \\
          --release model-v41 --baseline model-v40

    Exit codes: 0 healthy, 2 breach, 3 blind, 1 an error in what was given.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.clock import utc_now
    from rollback_budget.engine import VerdictKind, evaluate
    from rollback_budget.engine.record_span import as_of_record, spans_of, start_of_record
    from rollback_budget.exceptions import SeriesError
    from rollback_budget.recording.plan import plan_between, with_versions
    from rollback_budget.sources.recorded import read_series

    now = utc_now()
    wanted = time_range(from_, to, last, now)
    if wanted is not None and series is not None:
        raise click.UsageError("--from, --to and --last read the metric source; leave out --series")
    if (live or wanted is not None) == (series is not None):
        raise click.UsageError("give either --series FILE, or --live to read the metric source of the budget")
    spec = with_versions(load_budget(budget), release, baseline)
    if series is not None:
        samples, place = read_series(series), str(series)
        spans = spans_of(samples)
        begin, as_of = start_of_record(spec, spans), as_of_record(spec, spans)
        latest = max(last for _, last in spans.values())
    else:
        first, last_of_all = (now - spec.window, now) if wanted is None else (wanted.start, wanted.end)
        plan = plan_between(spec, first, last_of_all, now=now)
        samples, place = read_samples(spec, plan), "the metric source"
        begin, latest, as_of = plan.whole_from, plan.end, plan.as_of(spec)
    for warning in _warnings(spec, samples, place):
        click.echo(f"warning: {warning}", err=True)
    begin = begin if start is None else start
    if latest <= begin:
        raise SeriesError(
            f"{place}: the latest sample ({latest.isoformat()}) is not after --start ({begin.isoformat()}); "
            "start earlier"
        )
    evaluation = evaluate(spec, samples, start=begin, until=latest, as_of=as_of, keep_going=keep_going)
    if as_json:
        click.echo(evaluation.model_dump_json(indent=2))
    else:
        _print(spec, evaluation)
    ctx.exit({VerdictKind.HEALTHY: 0, VerdictKind.BREACH: 2, VerdictKind.BLIND: 3}[evaluation.verdict])


def _warnings(spec: RolloutSpec, samples: Sequence[Sample], place: str) -> list[str]:
    """Name what the budget asks for and the series does not have at all."""
    from rollback_budget.text import printable

    found = {
        "version": dict.fromkeys(sample.version for sample in samples),
        "metric": dict.fromkeys(sample.series for sample in samples),
    }
    wanted = {
        "version": (spec.release, spec.baseline),
        "metric": tuple(dict.fromkeys(budget.series for budget in spec.budgets)),
    }
    return [
        f"{place}: no sample of {what} {printable(name)}, so its looks are unknown; "
        f"found: {', '.join(map(printable, found[what]))}"
        for what, names in wanted.items()
        for name in names
        if name not in found[what]
    ]


def _print(spec: RolloutSpec, evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from rollback_budget.model.duration import say_duration
    from rollback_budget.text import printable

    until = evaluation.evaluated_until
    so_far = "" if evaluation.final else " so far; the series ends before the window"
    click.echo(f"{evaluation.verdict.value.upper()} at {until:%Y-%m-%d %H:%M:%S} UTC{so_far}")
    click.echo(printable(evaluation.finding))
    for doubt in evaluation.doubts_of_verdict:
        click.echo(f"mind that {printable(doubt)}")
    click.echo()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("budget", "tier", "last look", "burn", "looks", "unknown", "breaches"):
        is_count = heading in ("looks", "unknown", "breaches")
        table.add_column(heading, justify="right" if is_count else "left", overflow="fold")
    for budget, status in zip(spec.budgets, evaluation.budgets, strict=True):
        breaches = sum(breach.budget == budget.id for breach in evaluation.breaches)
        burn = f"{say_duration(status.burn)} of {say_duration(budget.max_duration)}"
        counts = (status.looks, status.unknown_looks, breaches)
        tier = budget.tier.value.upper()
        table.add_row(printable(budget.id), tier, _last_look(status), burn, *map(str, counts))
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 120)
    console.print(table)


def _last_look(status: BudgetEvaluation) -> str:
    if status.look is None:
        return "none yet"
    delta = "" if status.look.delta is None else f", delta {status.look.delta:+.3g}"
    return f"{status.look.status.value}{delta}"
