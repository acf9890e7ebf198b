"""``rollback-budget design-effect``: how clustered requests are, from a time without change."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rollback_budget.cli.common import budget_argument, series_option


@click.command("design-effect")
@budget_argument
@series_option("A recorded series of a time without change: .csv, .jsonl or .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def design_effect(budget: Path, series: Path, as_json: bool) -> None:
    """Estimate `analysis.design_effect` for BUDGET from a series where both versions were equally good.

    The series names its two versions as the budget does: an A/A test, or the baseline's traffic divided
    in two. Use a day or more. Write the largest number into the budget.

    Exits 0, or 1 when the series has too few counts for an estimate.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.engine.design_effect import design_effect_of
    from rollback_budget.engine.frame import frame_of
    from rollback_budget.exceptions import SeriesError
    from rollback_budget.model.method_plan import Counted, plan_of
    from rollback_budget.sources.recorded import read_series

    spec = load_budget(budget)
    samples = read_series(series)
    start = min(sample.time for sample in samples) - spec.watch.step
    frame = frame_of(spec, samples, start=start, end=max(sample.time for sample in samples))
    counted = [line for line in spec.budgets if plan_of(spec, line).counted is Counted.EVENTS]
    if not counted:
        raise SeriesError(f"{budget}: no budget counts events among requests, so none needs a design effect")
    found: dict[str, float] = {}
    for line in counted:
        try:
            found[line.id] = round(design_effect_of(line, frame), 2)
        except SeriesError as error:
            raise SeriesError(f"{series}: {line.id}: {error}") from None
    largest = max(found.values())
    if as_json:
        click.echo(json.dumps({"budgets": found, "design_effect": largest}, indent=2, ensure_ascii=False))
        return
    for name, effect in found.items():
        click.echo(f"{name}: {effect:.2f}")
    click.echo(f"\nanalysis: {{design_effect: {largest:.2f}}}")
