"""``rollback-budget suggest``: the rule that a service's own noise asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import budget_argument, jobs_option, series_option
from rollback_budget.cli.progress import progress_of
from rollback_budget.cli.source_reading import read_recorded, version_options
from rollback_budget.cli.time_range import range_options, time_range

if TYPE_CHECKING:
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.suggest.suggestion import Suggestion


@click.command()
@budget_argument
@series_option("A recorded series of a time without change, a day or more: .csv, .jsonl or .parquet.")
@range_options
@version_options
@click.option(
    "--days",
    metavar="N",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Windows without change to draw from the record.",
)
@click.option(
    "--within",
    metavar="DURATION",
    default="2h",
    show_default=True,
    help="How soon harm of twice a threshold should be found; at least three of the budget's durations.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of the draw: the same one says the same."
)
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def suggest(
    budget: Path,
    series: Path | None,
    from_: str | None,
    to: str | None,
    last: str | None,
    release: str | None,
    baseline: str | None,
    days: int,
    within: str,
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Say what a time without change makes of BUDGET, and which rule near it keeps its promise.

    The series names its two versions as the budget does: an A/A test, or the baseline's traffic divided in
    two, for a day or more; a week is better. Windows without change are drawn from it by blocks, the rule is
    tried on each, and on windows into which harm is put. Nothing is written: the proposal is printed, to be
    pasted and reviewed. With --last or --from the metric source of the budget is read, as `record` reads it.

    \b
    Examples:
      rollback-budget suggest budgets/model-v42.yaml --series a-week-without-change.csv
      rollback-budget suggest budgets/model-v42.yaml --last 7d --release canary --baseline stable

    Exits 0, also where a change is proposed; 1 when the budget, the series or the source cannot be used.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.clock import utc_now
    from rollback_budget.exceptions import SeriesError
    from rollback_budget.model.duration import parse_duration
    from rollback_budget.recording.plan import with_versions
    from rollback_budget.suggest.suggestion import suggest_rule

    try:
        find_within = parse_duration(within)
    except ValueError as error:
        raise click.BadParameter(f"{within!r} is {error}", param_hint="--within") from None
    wanted = time_range(from_, to, last, utc_now())
    spec = with_versions(load_budget(budget), release, baseline)
    recorded = read_recorded(spec, series, wanted)
    with progress_of("windows", 0) as bar:
        try:
            suggestion = suggest_rule(
                spec,
                recorded.samples,
                days=days,
                seed=seed,
                find_within=find_within,
                jobs=jobs,
                on_begin=bar.expect,
                on_done=bar.advance,
            )
        except SeriesError as error:
            raise SeriesError(f"{recorded.place}: {error}") from None
    if as_json:
        click.echo(json.dumps(_as_json(spec, suggestion), indent=2, ensure_ascii=False))
    else:
        _print(spec, suggestion)


def _as_json(spec: RolloutSpec, suggestion: Suggestion) -> dict[str, Any]:
    from rollback_budget.suggest.reasons import budget_reasons, reasons_of

    document: dict[str, Any] = suggestion.model_dump(mode="json")
    document["reasons"] = reasons_of(suggestion)
    for budget, found, written in zip(spec.budgets, suggestion.budgets, document["budgets"], strict=True):
        written["reasons"] = budget_reasons(spec, budget, found)
        written["is_changed"] = found.is_changed
    return document


def _print(spec: RolloutSpec, suggestion: Suggestion) -> None:
    from rich.console import Console
    from rich.table import Table

    from rollback_budget.model.duration import say_duration
    from rollback_budget.suggest.interval import Rate
    from rollback_budget.suggest.reasons import budget_reasons, reasons_of, say_found, say_line
    from rollback_budget.suggest.search import Tried
    from rollback_budget.text import printable

    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 120)
    kept = "" if suggestion.tolerance is None else ", from their time of day"
    if suggestion.tolerance:
        kept = f"{kept} ± {say_duration(suggestion.tolerance)}"
    console.print(
        f"{suggestion.windows} windows of {say_duration(suggestion.window)} drawn from"
        f" {suggestion.start:%Y-%m-%d %H:%M} to {suggestion.end:%Y-%m-%d %H:%M} UTC"
        f" in blocks of {say_duration(suggestion.block)}{kept}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("budget", "", "line", "trips without change", "finds twice its threshold"):
        table.add_column(heading, overflow="fold")

    def row(name: str, which: str, line: Tried, at: int) -> None:
        said = say_line(line.threshold, line.max_duration, spec.budgets[at])
        table.add_row(printable(name), which, said, str(line.false_trips), say_found(line.found))

    def rule(which: str, stops: Rate) -> None:
        table.add_row("the rule", which, "", str(stops), "")

    rule("as it is", suggestion.false_trips)
    if not suggestion.is_fine:
        rule("proposed", suggestion.proposed_false_trips)
    for place, found in enumerate(suggestion.budgets):
        row(found.budget, "as it is", found.current, place)
        if not suggestion.is_fine:
            row("", "proposed", found.proposed, place)
        if found.fast is not None:
            row("", "fast line", found.fast, place)
    console.print()
    console.print(table)
    click.echo()
    for said in reasons_of(suggestion):
        click.echo(f"- {printable(said)}")
    for budget, found in zip(spec.budgets, suggestion.budgets, strict=True):
        click.echo(f"\n{printable(budget.id)}:")
        for said in budget_reasons(spec, budget, found):
            click.echo(f"- {printable(said)}")
        for said in found.warnings:
            click.echo(f"- warning: {printable(said)}")
    click.echo()
    for said in suggestion.warnings:
        click.echo(f"warning: {printable(said)}")
    if not suggestion.is_fine:
        click.echo("\nTo be pasted after a review; nothing was written:\n")
        click.echo(suggestion.yaml.rstrip())
