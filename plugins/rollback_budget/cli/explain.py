"""``rollback-budget explain``: the rule in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import budget_argument

if TYPE_CHECKING:
    from rollback_budget.model.spec import RolloutSpec


@click.command()
@budget_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--traffic",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Requests per minute and version: say how long harm takes to be found.",
)
@click.option(
    "--bad-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    metavar="P",
    help="Share of bad events of the baseline that --traffic assumes.",
)
def explain(budget: Path, as_json: bool, traffic: float | None, bad_rate: float) -> None:
    """Say what BUDGET agrees to, in sentences for the people who agree to it.

    With --traffic, also how long harm of twice and five times the threshold takes to be found: a forecast for
    budgets that the sequential test decides.

    Exits 0, or 1 with every problem of a file that does not load.
    """
    from rollback_budget.budget_file import describe as words
    from rollback_budget.budget_file import load_budget, preflight_problems

    spec = load_budget(budget)
    rule = {line.id: words.say_budget(spec, line) for line in spec.budgets}
    methods = [words.say_method(spec, line) for line in spec.budgets]
    around = {
        "window": words.say_window(spec),
        "looks": words.say_looks(spec),
        "blind": words.say_blind(spec),
        "decides": words.say_deciders(spec),
    }
    detection = _detection(spec, traffic, bad_rate)
    missing = preflight_problems(spec)
    if as_json:
        heading = {
            "name": spec.name,
            "release": spec.release,
            "baseline": spec.baseline,
            "sha256": spec.sha256,
        }
        lines = [{"budget": name, "sentence": sentence} for name, sentence in rule.items()]
        document = {
            **heading,
            "budgets": lines,
            "methods": methods,
            "detection": detection,
            **around,
            "missing_to_ship": missing,
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(f"{_shown(spec.release)}, rolled out against {_shown(spec.baseline)} ({spec.name})\n")
    for sentence in rule.values():
        click.echo(f"  - {_shown(sentence)}")
    for topic, sentence in around.items():
        click.echo(f"\n{topic}: {_shown(sentence)}", nl=False)
    click.echo("\n\nmethod:")
    for note in methods:
        click.echo(f"  - {_shown(note)}")
    if detection:
        click.echo("\ntime to detection:")
        for note in detection:
            click.echo(f"  - {_shown(note)}")
    if missing:
        click.echo("\nmissing to ship:")
        for problem in missing:
            click.echo(f"  - {_shown(problem)}")


def _detection(spec: RolloutSpec, traffic: float | None, bad_rate: float) -> list[str]:
    from rollback_budget.engine.detection import describe_detection

    if traffic is None:
        return []
    forecasts = (describe_detection(spec, line, traffic, bad_rate) for line in spec.budgets)
    return [sentence for sentence in forecasts if sentence]


def _shown(text: str) -> str:
    """Escape what a terminal would act on: names are data."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
