"""``rollback-budget preflight``: what a watch can expect, from its metric source or a recorded series."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import budget_argument, series_option
from rollback_budget.cli.source_reading import read_samples, survey_source, version_options

if TYPE_CHECKING:
    from rollback_budget.engine.sample import Sample
    from rollback_budget.model.spec import RolloutSpec


@click.command()
@budget_argument
@series_option(
    "A recorded series of the baseline, and of the release if it has traffic: .csv, .jsonl or .parquet;"
    " by default the metric source of the budget is read."
)
@version_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def preflight(
    budget: Path, series: Path | None, release: str | None, baseline: str | None, as_json: bool
) -> None:
    """Say what a watch of BUDGET can expect, from the last hour of its metric source or of a recorded series.

    For each budget: the value and the traffic of both versions, the method that would decide, how long harm
    of twice and four times the threshold takes to be found, and what would make the watch worth less. The
    preflight task of a rollout prints the same. Without --series, connections come from the environment
    (AIRFLOW_CONN_<ID>) or the secrets backend of Airflow's configuration.

    \b
    Examples:
      rollback-budget preflight budgets/model-v42.yaml
      rollback-budget preflight budgets/model-v42.yaml --series last-hour.csv

    Exits 0, with warnings too; 1 when the budget or the series cannot be read, or a budget cannot be watched
    by what came: the rollout would not be shipped.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.engine.forecast_table import error_lines, forecast_lines, warning_lines
    from rollback_budget.engine.preflight_forecast import forecast_watch
    from rollback_budget.recording.plan import with_versions
    from rollback_budget.text import printable

    spec = with_versions(load_budget(budget), release, baseline)
    remarks: list[str] = []
    record_from = None
    if series is None:
        samples, start, end, remarks = _from_source(spec)
    else:
        samples, start, end, record_from = _from_file(spec, series)
    forecast = forecast_watch(spec, samples, start=start, end=end, record_from=record_from)
    errors = error_lines(forecast)
    if as_json:
        text = forecast.model_dump_json(indent=2)
        if series is None:
            document = {**json.loads(text), "source_warnings": remarks}
            text = json.dumps(document, indent=2, ensure_ascii=False)
        click.echo(text)
        sys.exit(1 if errors else 0)
    for line in forecast_lines(forecast):
        click.echo(printable(line))
    for line in (*warning_lines(forecast), *remarks):
        click.echo(f"warning: {printable(line)}")
    for line in errors:
        click.echo(f"error: {printable(line)}")
    sys.exit(1 if errors else 0)


def _from_file(spec: RolloutSpec, series: Path) -> tuple[list[Sample], datetime, datetime, datetime]:
    """Return the samples of a file, the beginning and the end of its last hour, and where it begins."""
    from rollback_budget.engine.preflight_forecast import LOOK_BACK
    from rollback_budget.engine.record_span import all_decided, spans_of, start_of_record
    from rollback_budget.sources.recorded import read_series

    samples = read_series(series)
    spans = spans_of(samples)
    end = max(max(last for _, last in spans.values()), all_decided(spec, spans))
    begins = start_of_record(spec, spans)
    return samples, max(begins, end - LOOK_BACK), end, begins


def _from_source(spec: RolloutSpec) -> tuple[list[Sample], datetime, datetime, list[str]]:
    """Return the samples of the last hour, its beginning and end, and what is doubtful about the source."""
    from rollback_budget.clock import utc_now
    from rollback_budget.engine.preflight_forecast import LOOK_BACK
    from rollback_budget.recording.plan import latest_of, plan_of_latest

    plan = plan_of_latest(spec, LOOK_BACK, now=utc_now())
    samples = read_samples(spec, plan, to_watermark=False)
    start, end = latest_of(spec, plan)
    return samples, start, end, survey_source(spec, plan)
