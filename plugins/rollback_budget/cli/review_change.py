"""``rollback-budget review-change``: what a change of the rule would have done to past rollouts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import iso, jobs_option, json_option
from rollback_budget.cli.progress import progress_of
from rollback_budget.cli.recordings import (
    Chosen,
    choose_recordings,
    left_out_json,
    recording_json,
    recording_options,
    score_json,
)
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rollback_budget.backtest.rule_change import (
        BudgetChange,
        Comparison,
        Result,
        RuleChange,
        Setting,
    )
    from rollback_budget.backtest.score import Score
    from rollback_budget.backtest.trial import Trial
    from rollback_budget.model.spec import RolloutSpec

_Untried = Counter[tuple[str, str]]

#: A comment on a pull request is read by people: of so many rollouts it is said what was not tried.
_MOST_WARNINGS = 10


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@recording_options
@json_option
@jobs_option
def review_change(
    old: Path,
    new: Path,
    folder: Path | None,
    from_ledger: bool,
    since: timedelta | None,
    url: str | None,
    as_json: bool,
    jobs: int,
) -> None:
    """Say what changing budget OLD into NEW would have done to past rollouts, in Markdown for a pull request.

    The rollouts are those of FOLDER or, with --ledger, of the ledger, as `backtest` takes them. Both rules
    are tried on the same data: how false trips, found, missed and the median delay change, which rollouts end
    otherwise, and how the rules differ in words.

    \b
    Examples:
      rollback-budget review-change old.yaml budgets/model-v42.yaml rollouts/
      rollback-budget review-change old.yaml budgets/model-v42.yaml --ledger --since 180d > comment.md

    Exits 0 whatever the change does, or 1 when a budget or a recording cannot be read.
    """
    from rollback_budget.backtest.rule_change import compare_trials, rule_change
    from rollback_budget.backtest.run import run_backtest
    from rollback_budget.budget_file import load_budget

    specs = load_budget(old), load_budget(new)
    if from_ledger and specs[0].service != specs[1].service:
        raise click.UsageError(
            f"OLD is of the service {specs[0].service!r} and NEW of {specs[1].service!r}: they have no past"
            " rollouts in common"
        )
    chosen = choose_recordings(specs, folder, from_ledger, since, url)
    change = rule_change(*specs)
    comparison, untried = None, Counter[tuple[str, str]]()
    if change:
        trials: list[list[Trial]] = []
        with progress_of("rollouts", 2 * len(chosen.recordings)) as bar:
            for spec in specs:
                results = run_backtest(spec, chosen.recordings, jobs=jobs, on_done=bar.advance)
                trials.append([result.trial for result in results])
        comparison = compare_trials(*trials)
        for first, second in zip(*trials, strict=True):
            untried.update({**first.untried, **second.untried}.items())
    if as_json:
        document = _as_json(specs, change, comparison, untried, chosen)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(_markdown(specs, change, comparison, untried, chosen)))


def _as_json(
    specs: Sequence[RolloutSpec],
    change: RuleChange,
    comparison: Comparison | None,
    untried: _Untried,
    chosen: Chosen,
) -> dict[str, Any]:
    old, new = ({"name": spec.name, "sha256": spec.sha256} for spec in specs)
    rollouts = () if comparison is None else comparison.rollouts
    return {
        "old": old,
        "new": new,
        "summary": _summary(comparison),
        "rule": {
            "budgets": [
                {
                    "budget": one.budget,
                    "before": one.before,
                    "after": one.after,
                    "settings": _settings_json(one.settings),
                }
                for one in change.budgets
            ],
            "settings": _settings_json(change.settings),
        },
        "before": None if comparison is None else score_json(comparison.before),
        "after": None if comparison is None else score_json(comparison.after),
        "rollouts": [
            {
                **recording_json(one.recording),
                "label": one.recording.label,
                "onset": iso(one.recording.onset),
                "before": _result_json(one.before),
                "after": _result_json(one.after),
                "differs": one.differs,
                "warnings": list(one.warnings),
            }
            for one in rollouts
        ],
        "untried": [
            {"budget": budget, "reason": reason, "rollouts": count}
            for (budget, reason), count in sorted(untried.items())
        ],
        **left_out_json(chosen),
    }


def _settings_json(settings: Sequence[Setting]) -> list[dict[str, str | None]]:
    return [{"setting": one.name, "before": one.before, "after": one.after} for one in settings]


def _result_json(result: Result) -> dict[str, Any]:
    trigger = result.trigger
    return {
        "outcome": result.outcome,
        "trigger_minute": None if trigger is None else trigger.minute,
        "budget": None if trigger is None else trigger.budget,
    }


def _summary(comparison: Comparison | None) -> str:
    """Say in one sentence what the change would have done."""
    if comparison is None:
        return "Nothing changes: both budgets hold the same rule, so none was tried on past rollouts."
    before, after = comparison.before, comparison.after
    changed = sum(one.differs for one in comparison.rollouts)
    rollouts = plural(len(comparison.rollouts), "past rollout")
    of = f"{after.good} good, {after.bad} bad, {after.unlabelled} without a label"
    undecided = f"; {after.undecided} undecided ({before.undecided})" if after.undecided else ""
    if not changed:
        return f"On {rollouts} ({of}) the new rule stops the same ones in the same minutes{undecided}."
    gone = comparison.no_longer_known
    unknown = f", of which {gone} {'is' if gone == 1 else 'are'} undecided now" if gone else ""
    trips = f"{plural(after.false_trips, 'false trip')} ({before.false_trips} before{unknown})"
    return (
        f"Of {rollouts} ({of}), {changed} would have gone otherwise:"
        f" {trips}, {after.found} found ({before.found}), {after.missed} missed ({before.missed}),"
        f" median delay {_delay(after) or 'not known'} ({_delay(before) or 'not known'}){undecided}."
    )


def _markdown(
    specs: Sequence[RolloutSpec],
    change: RuleChange,
    comparison: Comparison | None,
    untried: _Untried,
    chosen: Chosen,
) -> Iterator[str]:
    yield f"## Rollback budget {_code(specs[1].name)}: what this change would have done"
    yield ""
    yield _summary(comparison)
    if comparison is not None:
        yield ""
        yield from _counts(comparison.before, comparison.after)
        yield from _rollouts(comparison)
        yield from _rule(change)
        yield from _limits(comparison, untried, chosen)


def _counts(before: Score, after: Score) -> Iterator[str]:
    yield "| | before | after |"
    yield "|---|---:|---:|"
    rows = [
        (
            "false trips",
            f"{before.false_trips} of {before.false_trips_of}",
            f"{after.false_trips} of {after.false_trips_of}",
        ),
        ("found", f"{before.found} of {before.bad}", f"{after.found} of {after.bad}"),
        ("missed", f"{before.missed} of {before.bad}", f"{after.missed} of {after.bad}"),
        ("median delay", _delay(before), _delay(after)),
        (
            "tripped, no label",
            f"{before.tripped} of {before.unlabelled}",
            f"{after.tripped} of {after.unlabelled}",
        ),
        ("undecided", str(before.undecided), str(after.undecided)),
    ]
    for name, one, other in rows:
        yield f"| {name} | {one} | {other} |"


def _delay(score: Score) -> str:
    from rollback_budget.model.duration import say_duration

    return "" if score.median_delay is None else say_duration(score.median_delay)


def _rollouts(comparison: Comparison) -> Iterator[str]:
    changed = [one for one in comparison.rollouts if one.differs]
    if not changed:
        return
    yield ""
    yield "### Rollouts that would have gone otherwise"
    yield ""
    yield "| rollout | label | before | minute | after | minute | by |"
    yield "|---|---|---|---:|---|---:|---|"
    for one in changed:
        trigger = one.after.trigger or one.before.trigger
        cells = [
            _code(one.recording.name),
            one.recording.label or "none",
            *(cell for result in (one.before, one.after) for cell in (result.outcome, _minute(result))),
            "" if trigger is None else _code(trigger.budget),
        ]
        yield f"| {' | '.join(cells)} |"


def _minute(result: Result) -> str:
    return "" if result.trigger is None else f"{result.trigger.minute:g}"


def _rule(change: RuleChange) -> Iterator[str]:
    yield ""
    yield "### The rule"
    yield ""
    for one in change.budgets:
        yield from _budget(one)
    for setting in change.settings:
        yield f"- {_setting(setting)}"


def _budget(one: BudgetChange) -> Iterator[str]:
    if one.before is None or one.after is None:
        what = "new" if one.before is None else "gone"
        yield f"- {_code(one.budget)} is {what}: {_text(one.after or one.before or '')}"
        return
    yield f"- {_code(one.budget)}"
    if one.before != one.after:
        yield f"  - before: {_text(one.before)}"
        yield f"  - after: {_text(one.after)}"
    for setting in one.settings:
        yield f"  - {_setting(setting)}"


def _setting(one: Setting) -> str:
    before, after = ("not set" if said is None else _code(said) for said in (one.before, one.after))
    return f"{_code(one.name)}: {before} → {after}"


def _limits(comparison: Comparison, untried: _Untried, chosen: Chosen) -> Iterator[str]:
    warnings = [
        f"{_code(one.recording.name)}: {_text(said)}" for one in comparison.rollouts for said in one.warnings
    ]
    lines = warnings[:_MOST_WARNINGS]
    if len(warnings) > len(lines):
        lines.append(f"and {len(warnings) - len(lines)} more of these, which `--json` lists")
    lines += [
        f"{_code(budget)} could not be tried on {plural(count, 'rollout')}, judged here without it:"
        f" {_text(reason)}"
        for (budget, reason), count in sorted(untried.items())
    ]
    lines += [
        f"{_code(one.release or str(one.key))} was not tried: {_text(one.reason)}" for one in chosen.left_out
    ]
    lines += [_text(note) for note in chosen.notes]
    if lines:
        yield ""
        yield "### What is not known"
        yield ""
        for line in lines:
            yield f"- {line}"


def _code(text: str) -> str:
    """Return a name as code: nothing in it is markup, or mentions a person."""
    escaped = printable(text).replace("`", "'").replace("|", r"\|")
    return f"`{escaped}`"


def _text(text: str) -> str:
    """Return a sentence in which nothing is markup."""
    from rollback_budget.tickets.markdown import escape

    return escape(printable(text))
