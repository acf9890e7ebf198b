"""``rollback-budget backtest``: what a budget would have done to recorded rollouts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import budget_argument, iso, jobs_option
from rollback_budget.cli.progress import progress_of
from rollback_budget.cli.recordings import (
    Chosen,
    choose_recordings,
    left_out_json,
    minutes,
    recording_json,
    recording_options,
    score_json,
)
from rollback_budget.text import plural

if TYPE_CHECKING:
    from rich.console import Console

    from rollback_budget.backtest.run import BacktestResult
    from rollback_budget.backtest.score import Score
    from rollback_budget.backtest.sweep import Candidate
    from rollback_budget.backtest.trial import Trial
    from rollback_budget.model.spec import RolloutSpec


@click.command()
@budget_argument
@recording_options
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
    help="Which rollout to draw, by its name; by default a false trip, else a missed one, else any.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@jobs_option
def backtest(
    budget: Path,
    folder: Path | None,
    from_ledger: bool,
    since: timedelta | None,
    url: str | None,
    sweep: bool,
    chart: Path | None,
    rollout: str | None,
    as_json: bool,
    jobs: int,
) -> None:
    """Try BUDGET on every recorded rollout of FOLDER: when it would have tripped, and whether rightly.

    FOLDER holds one series file a rollout, as `replay` reads it, and labels.csv with the columns file, label
    (good or bad) and optionally onset (when a bad one went bad), release and baseline (the versions of that
    rollout, where they are not the ones of BUDGET).

    \b
      file,label,onset,release,baseline
      2026-09-02.csv,good,,model-v40,model-v39
      2026-09-16.csv,bad,2026-09-16T14:20:00Z,model-v41,model-v40

    With --ledger instead of FOLDER, the past rollouts of the same service in the ledger, from their recorded
    looks, with the labels that `label` gave them. Looks hold values and numbers of events to six digits, and
    no histograms. A rollout that was ended is recorded until then: whether BUDGET would have tripped later is
    undecided.

    \b
    Examples:
      rollback-budget backtest budgets/model-v42.yaml rollouts/
      rollback-budget backtest budgets/model-v42.yaml rollouts/ --sweep --chart trade-off.svg
      rollback-budget backtest budgets/model-v42.yaml rollouts/ --chart night.png --of 2026-09-16.csv
      rollback-budget backtest budgets/model-v42.yaml --ledger --since 180d

    Exits 0, or 1 with every file that cannot be read.
    """
    from rollback_budget.backtest.run import run_backtest
    from rollback_budget.budget_file import load_budget
    from rollback_budget.charts import check_format

    if chart is not None:
        check_format(chart)
    spec = load_budget(budget)
    chosen = choose_recordings([spec], folder, from_ledger, since, url)
    recordings = chosen.recordings
    if rollout is not None and rollout not in {recording.name for recording in recordings}:
        place = chosen.place if folder is None else folder
        raise click.BadParameter(f"there is no {rollout!r} in {place}", param_hint="--of")
    with progress_of("rollouts", len(recordings)) as bar:
        results = run_backtest(spec, recordings, sweep=sweep, jobs=jobs, on_done=bar.advance)
    trials = [one.trial for one in results]
    swept = _swept(spec, results) if sweep else []
    if chart is not None:
        _draw(spec, trials, swept, rollout, chart)
    if as_json:
        click.echo(json.dumps(_as_json(spec, trials, swept, chosen), indent=2, ensure_ascii=False))
    else:
        _print(spec, trials, swept, chosen)


def _swept(spec: RolloutSpec, results: Sequence[BacktestResult]) -> list[tuple[Candidate, Score]]:
    from rollback_budget.backtest.score import Tripped, score
    from rollback_budget.backtest.sweep import candidates_of

    return [
        (
            candidate,
            score(
                Tripped(one.trial.recording, one.swept[place], one.trial.ends_early)
                for one in results
                if candidate.budget not in one.trial.untried
            ),
        )
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
    spec: RolloutSpec,
    trials: Sequence[Trial],
    swept: Sequence[tuple[Candidate, Score]],
    chosen: Chosen,
) -> dict[str, Any]:
    from rollback_budget.backtest.score import scores_of

    rule, budgets = scores_of(spec, trials)
    document: dict[str, Any] = {
        "name": spec.name,
        "sha256": spec.sha256,
        "rule": score_json(rule),
        "budgets": [{"budget": name, **score_json(score)} for name, score in budgets.items()],
        "rollouts": [_trial_json(trial) for trial in trials],
        **left_out_json(chosen),
    }
    if swept:
        document["sweep"] = [
            {
                "budget": candidate.budget,
                "threshold": candidate.threshold,
                "max_duration_min": minutes(candidate.max_duration),
                "is_current": candidate.is_current,
                **score_json(score),
            }
            for candidate, score in swept
        ]
    return document


def _trial_json(trial: Trial) -> dict[str, Any]:
    recording = trial.recording
    return {
        **recording_json(recording),
        "label": recording.label,
        "onset": iso(recording.onset),
        "window_start": iso(trial.start),
        "evaluated_until": iso(trial.until),
        "outcome": trial.outcome,
        "trigger_minute": None if trial.deciding is None else trial.deciding.minute,
        "delay_min": minutes(trial.delay),
        "blind_at": iso(trial.blind_at),
        "untried": [{"budget": name, "reason": reason} for name, reason in trial.untried.items()],
        "warnings": list(trial.warnings),
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


def _print(
    spec: RolloutSpec,
    trials: Sequence[Trial],
    swept: Sequence[tuple[Candidate, Score]],
    chosen: Chosen,
) -> None:
    from rich.console import Console

    from rollback_budget.backtest.score import scores_of
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
    rule, budgets = scores_of(spec, trials)
    may_be_undecided = any(not recording.is_whole for recording in chosen.recordings)
    undecided = ("undecided",) if may_be_undecided else ()
    delays = ("median delay", "longest delay")
    table = _table("", "false trips", "found", "missed", *undecided, "tripped, no label", *delays)
    for name, score in (("the rule", rule), *budgets.items()):
        table.add_row(
            printable(name),
            f"{score.false_trips} of {score.false_trips_of}",
            f"{score.found} of {score.bad}",
            str(score.missed) if name == "the rule" else "",
            *((str(score.undecided),) if may_be_undecided else ()),
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
                f"{score.false_trips} of {score.false_trips_of}",
                f"{score.found} of {score.bad}",
                "" if score.median_delay is None else say_duration(score.median_delay),
                "as it is" if candidate.is_current else "",
            )
        console.print()
        console.print(table)

    _print_limits(console, trials, chosen)


def _print_limits(console: Console, trials: Sequence[Trial], chosen: Chosen) -> None:
    """Say what could not be tried, and what that means."""
    from rollback_budget.text import printable

    untried = Counter((name, reason) for trial in trials for name, reason in trial.untried.items())
    if untried or chosen.left_out:
        table = _table("not tried", "", "why")
        for (name, reason), count in sorted(untried.items()):
            table.add_row(printable(name), f"on {plural(count, 'rollout')}", printable(reason))
        for one in chosen.left_out:
            name = str(one.key) if one.release is None else f"{one.release} {one.key.run_id}"
            table.add_row(printable(name), "", printable(one.reason))
        console.print()
        console.print(table)
    for trial in trials:
        for warning in trial.warnings:
            said = printable(f"{trial.recording.name}: {warning}")
            console.print(f"\nwarning: {said}", soft_wrap=True)
    for note in chosen.notes:
        console.print(f"\nnote: {printable(note)}", soft_wrap=True)


def _blind_first(trial: Trial) -> bool:
    return trial.blind_at is not None and (trial.deciding is None or trial.blind_at < trial.deciding.at)


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
