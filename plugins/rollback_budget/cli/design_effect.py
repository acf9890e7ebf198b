"""``rollback-budget design-effect``: how clustered requests are, from a time without change."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rollback_budget.cli.common import budget_argument, series_option
from rollback_budget.cli.source_reading import read_recorded, version_options
from rollback_budget.cli.time_range import range_options, time_range


@click.command("design-effect")
@budget_argument
@series_option("A recorded series of a time without change: .csv, .jsonl or .parquet.")
@range_options
@version_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def design_effect(
    budget: Path,
    series: Path | None,
    from_: str | None,
    to: str | None,
    last: str | None,
    release: str | None,
    baseline: str | None,
    as_json: bool,
) -> None:
    """Estimate `analysis.design_effect` for BUDGET from a series where both versions were equally good.

    The series names its two versions as the budget does: an A/A test, or the baseline's traffic divided
    in two. Use a day or more. Write the largest number into the budget. With --last or --from the metric
    source of the budget is read, as `record` reads it.

    \b
    Examples:
      rollback-budget design-effect budgets/model-v42.yaml --series a-week-without-change.csv
      rollback-budget design-effect budgets/model-v42.yaml --last 7d --release canary --baseline stable

    A budget with less than 200 steps of its metric's `every` gets a warning, and the others their estimate.
    One whose judge changed within the series gets a warning with its estimate.

    Exits 0, or 1 when no budget has counts enough for an estimate.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.clock import utc_now
    from rollback_budget.engine.design_effect import design_effect_of
    from rollback_budget.engine.frame import frame_of
    from rollback_budget.exceptions import SeriesError
    from rollback_budget.model.method_plan import Counted, plan_of
    from rollback_budget.model.pace import pace_of
    from rollback_budget.recording.plan import with_versions
    from rollback_budget.suggest.judges import judge_warnings
    from rollback_budget.text import printable

    wanted = time_range(from_, to, last, utc_now())
    spec = with_versions(load_budget(budget), release, baseline)
    recorded = read_recorded(spec, series, wanted)
    frame = frame_of(spec, recorded.samples, start=recorded.start, end=recorded.end)
    counted = [line for line in spec.budgets if plan_of(spec, line).counted is Counted.EVENTS]
    if not counted:
        raise SeriesError(f"{budget}: no budget counts events among requests, so none needs a design effect")
    found: dict[str, float] = {}
    warnings: dict[str, str] = {}
    problems: dict[str, str] = {}
    for line in counted:
        every = pace_of(spec, line.metric).every
        try:
            found[line.id] = round(design_effect_of(line, frame, every), 2)
        except SeriesError as error:
            problems[line.id] = str(error)
        doubts = [*judge_warnings(spec, frame, line), *_no_estimate(problems.get(line.id))]
        if doubts:
            warnings[line.id] = "; ".join(doubts)
    if not found:
        said = "; ".join(f"{name}: {why}" for name, why in problems.items())
        raise SeriesError(f"{recorded.place}: {said}")
    largest = max(found.values())
    if as_json:
        document = {"budgets": found, "design_effect": largest, "warnings": warnings}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for name, why in warnings.items():
        click.echo(f"warning: {printable(name)}: {printable(why)}", err=True)
    for name, effect in found.items():
        click.echo(f"{printable(name)}: {effect:.2f}")
    click.echo(f"\nanalysis: {{design_effect: {largest:.2f}}}")


def _no_estimate(problem: str | None) -> list[str]:
    return [] if problem is None else [f"no estimate: {problem}"]
