"""``rollback-budget backtest``: what a budget would have done to recorded rollouts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import budget_argument, iso
from rollback_budget.text import plural

if TYPE_CHECKING:
    from rollback_budget.backtest.run import BacktestResult
    from rollback_budget.backtest.score import Score
    from rollback_budget.backtest.sweep import Candidate
    from rollback_budget.backtest.trial import Trial
    from rollback_budget.model.spec import RolloutSpec


@click.command()
@budget_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--sweep", is_flag=True, help="Also try other thresholds and durations, budget by budget.")
@click.option(
    "--chart",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw one rollout, or with --sweep the trade-off: .svg or .png.",
)
@click.option(
    "--of",
    "rollout",
    metavar="NAME",
    help="Which rollout to draw, by its file name; by default a false trip, else a missed one, else any.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes; by default one a core.",
)
def backtest(
    budget: Path, folder: Path, sweep: bool, chart: Path | None, rollout: str | None, as_json: bool, jobs: int
) -> None:
    """Try BUDGET on every recorded rollout of FOLDER: when it would have tripped, and whether rightly.

    FOLDER holds one series file a rollout, as `replay` reads it, and labels.csv with the columns file, label
    (good or bad) and optionally onset (when a bad one went bad), release and baseline (the versions of that
    rollout, where they are not the ones of BUDGET).

    \b
      file,label,onset,release,baseline
      2026-09-02.csv,good,,model-v40,model-v39
      2026-09-16.csv,bad,2026-09-16T14:20:00Z,model-v41,model-v40

    \b
    Examples:
      rollback-budget backtest budgets/model-v42.yaml rollouts/
      rollback-budget backtest budgets/model-v42.yaml rollouts/ --sweep --chart trade-off.svg
      rollback-budget backtest budgets/model-v42.yaml rollouts/ --chart night.png --of 2026-09-16.csv

    Exits 0, or 1 with every file that cannot be read.
    """
    from rollback_budget.backtest.folder import LABELS, recordings_of
    from rollback_budget.backtest.run import run_backtest
    from rollback_budget.budget_file import load_budget
    from rollback_budget.charts import check_format

    if chart is not None:
        check_format(chart)
    spec = load_budget(budget)
    recordings = recordings_of(folder)
    unlabelled = sum(recording.label is None for recording in recordings)
    if unlabelled:
        rollouts = plural(len(recordings), "rollout")
        click.echo(
            f"warning: {unlabelled} of {rollouts} without a label in {folder / LABELS}",
            err=True,
        )
    if rollout is not None and rollout not in {recording.name for recording in recordings}:
        raise click.BadParameter(f"there is no {rollout!r} in {folder}", param_hint="--of")
    with _progress(len(recordings)) as progress:
        results = run_backtest(
            spec, recordings, sweep=sweep, jobs=jobs, on_done=lambda: progress.advance(progress.task_ids[0])
        )
    trials = [one.trial for one in results]
    swept = _swept(spec, results) if sweep else []
    if chart is not None:
        _draw(spec, trials, swept, rollout, chart)
    if as_json:
        click.echo(json.dumps(_as_json(spec, trials, swept), indent=2, ensure_ascii=False))
    else:
        _print(spec, trials, swept)


def _progress(total: int) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    progress = Progress(console=Console(stderr=True), transient=True)
    progress.add_task("rollouts", total=total)
    return progress


def _scores(spec: RolloutSpec, trials: Sequence[Trial]) -> list[tuple[str, Score]]:
    """Return the score of the rule as a whole, then of each budget as if it stood alone."""
    from rollback_budget.backtest.score import score

    rule = score((trial.recording, trial.deciding) for trial in trials)
    by_budget = []
    for budget in spec.budgets:
        tripped = [
            (trial.recording, next((one for one in trial.triggers if one.budget == budget.id), None))
            for trial in trials
        ]
        by_budget.append((budget.id, score(tripped)))
    return [("the rule", rule), *by_budget]


def _swept(spec: RolloutSpec, results: Sequence[BacktestResult]) -> list[tuple[Candidate, Score]]:
    from rollback_budget.backtest.score import score
    from rollback_budget.backtest.sweep import candidates_of

    return [
        (candidate, score((one.trial.recording, one.swept[place]) for one in results))
        for place, candidate in enumerate(candidates_of(spec))
    ]


def _draw(
    spec: RolloutSpec,
    trials: Sequence[Trial],
    swept: Sequence[tuple[Candidate, Score]],
    rollout: str | None,
    chart: Path,
) -> None:
    from rollback_budget.backtest.trial import TrialOutcome, read_record, trace_of
    from rollback_budget.charts import draw_trace, draw_trade_off

    if swept and rollout is None:
        draw_trade_off(swept, chart)
        return
    interest = list(TrialOutcome)
    interest.sort(
        key=[
            TrialOutcome.FALSE_TRIP,
            TrialOutcome.MISSED,
            TrialOutcome.FOUND,
            TrialOutcome.TRIPPED,
            *interest,
        ].index
    )
    chosen = min(
        (trial for trial in trials if rollout in (None, trial.recording.name)),
        key=lambda trial: interest.index(trial.outcome),
    )
    draw_trace(trace_of(read_record(spec, chosen.recording), chosen), chart)


def _as_json(
    spec: RolloutSpec, trials: Sequence[Trial], swept: Sequence[tuple[Candidate, Score]]
) -> dict[str, Any]:
    (_, rule), *budgets = _scores(spec, trials)
    document: dict[str, Any] = {
        "name": spec.name,
        "sha256": spec.sha256,
        "rule": _score_json(rule),
        "budgets": [{"budget": name, **_score_json(score)} for name, score in budgets],
        "rollouts": [_trial_json(trial) for trial in trials],
    }
    if swept:
        document["sweep"] = [
            {
                "budget": candidate.budget,
                "threshold": candidate.threshold,
                "max_duration_min": _minutes(candidate.max_duration),
                "is_current": candidate.is_current,
                **_score_json(score),
            }
            for candidate, score in swept
        ]
    return document


def _trial_json(trial: Trial) -> dict[str, Any]:
    recording = trial.recording
    return {
        "file": recording.name,
        "label": recording.label,
        "onset": iso(recording.onset),
        "window_start": iso(trial.start),
        "evaluated_until": iso(trial.until),
        "outcome": trial.outcome,
        "trigger_minute": None if trial.deciding is None else trial.deciding.minute,
        "delay_min": _minutes(trial.delay),
        "blind_at": iso(trial.blind_at),
        "triggers": [
            {
                "budget": trigger.budget,
                "at": iso(trigger.at),
                "minute": trigger.minute,
                "method": trigger.method,
                "p_value": trigger.p_value,
                "sentence": trigger.sentence,
            }
            for trigger in trial.triggers
        ],
    }


def _score_json(score: Score) -> dict[str, Any]:
    return {
        "good": score.good,
        "bad": score.bad,
        "unlabelled": score.unlabelled,
        "false_trips": score.false_trips,
        "found": score.found,
        "missed": score.missed,
        "tripped": score.tripped,
        "median_delay_min": _minutes(score.median_delay),
        "longest_delay_min": _minutes(score.longest_delay),
    }


def _print(spec: RolloutSpec, trials: Sequence[Trial], swept: Sequence[tuple[Candidate, Score]]) -> None:
    from rich.console import Console

    from rollback_budget.model.duration import say_duration
    from rollback_budget.text import printable

    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 120)
    table = _table("rollout", "label", "trips at minute", "by", "outcome", "after its onset")
    for trial in trials:
        first = trial.deciding
        table.add_row(
            printable(trial.recording.name),
            trial.recording.label or "",
            "" if first is None else f"{first.minute:g}",
            "" if first is None else printable(first.budget),
            trial.outcome.value + (" (blind before)" if _blind_first(trial) else ""),
            "" if trial.delay is None else say_duration(trial.delay),
        )
    console.print(table)
    table = _table("", "false trips", "found", "missed", "tripped, no label", "median delay", "longest delay")
    for name, score in _scores(spec, trials):
        labelled = score.good + score.bad
        table.add_row(
            printable(name),
            f"{score.false_trips} of {labelled}",
            f"{score.found} of {score.bad}",
            str(score.missed) if name == "the rule" else "",
            f"{score.tripped} of {score.unlabelled}",
            *(
                "" if delay is None else say_duration(delay)
                for delay in (score.median_delay, score.longest_delay)
            ),
        )
    console.print()
    console.print(table)
    if swept:
        table = _table("budget", "threshold", "for", "false trips", "found", "median delay", "")
        for candidate, score in swept:
            table.add_row(
                printable(candidate.budget),
                f"{candidate.threshold:+g}",
                say_duration(candidate.max_duration),
                f"{score.false_trips} of {score.good + score.bad}",
                f"{score.found} of {score.bad}",
                "" if score.median_delay is None else say_duration(score.median_delay),
                "as it is" if candidate.is_current else "",
            )
        console.print()
        console.print(table)


def _blind_first(trial: Trial) -> bool:
    return trial.blind_at is not None and (trial.deciding is None or trial.blind_at < trial.deciding.at)


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _minutes(duration: timedelta | None) -> float | None:
    return None if duration is None else duration / timedelta(minutes=1)
