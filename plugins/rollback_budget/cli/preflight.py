"""``rollback-budget preflight``: what a watch can expect, from a recorded series."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import click

from rollback_budget.cli.common import budget_argument, series_option


@click.command()
@budget_argument
@series_option(
    "A recorded series of the baseline, and of the release if it has traffic: .csv, .jsonl or .parquet."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def preflight(budget: Path, series: Path, as_json: bool) -> None:
    """Say what a watch of BUDGET can expect, from the last hour of a recorded series.

    For each budget: the value and the traffic of both versions, the method that would decide, how long harm
    of twice and four times the threshold takes to be found, and what would make the watch worth less. The
    preflight task of a rollout prints the same from its metric source.

    \b
    Example:
      rollback-budget preflight budgets/model-v42.yaml --series last-hour.csv

    Exits 0, with warnings too; 1 when the budget or the series cannot be read, or a budget cannot be watched
    by what came: the rollout would not be shipped.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.engine.forecast_table import error_lines, forecast_lines, warning_lines
    from rollback_budget.engine.preflight_forecast import forecast_watch
    from rollback_budget.sources.recorded import read_series
    from rollback_budget.text import printable

    spec = load_budget(budget)
    samples = read_series(series)
    end = max(sample.time for sample in samples)
    begun = min(sample.time for sample in samples) - spec.watch.step
    forecast = forecast_watch(spec, samples, start=max(begun, end - timedelta(hours=1)), end=end)
    errors = error_lines(forecast)
    if as_json:
        click.echo(forecast.model_dump_json(indent=2))
        sys.exit(1 if errors else 0)
    for line in forecast_lines(forecast):
        click.echo(printable(line))
    for line in warning_lines(forecast):
        click.echo(f"warning: {printable(line)}")
    for line in errors:
        click.echo(f"error: {printable(line)}")
    sys.exit(1 if errors else 0)
