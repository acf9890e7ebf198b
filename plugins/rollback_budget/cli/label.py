"""``rollback-budget label``: how a past rollout really went, as people say it afterwards."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import (
    by_option,
    find_rollouts,
    iso,
    json_option,
    some,
    time_option,
    url_option,
    utc_second,
)
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.ledger.look_spans import LookSpan
    from rollback_budget.ledger.views import LoggedLabel


@click.command()
@click.argument("release", metavar="RELEASE")
@click.argument("went", type=click.Choice(("good", "bad")), metavar="good|bad")
@time_option(
    "--onset", help_text="When a bad one went bad, as far as you know: ISO 8601, as 2026-10-01T14:20:00Z."
)
@by_option
@click.option("--note", default="", metavar="TEXT", help="What you know of it; it is kept with the rollout.")
@click.option("--run", metavar="RUN_ID", help="This run; by default the newest.")
@url_option
@json_option
def label(
    release: str,
    went: str,
    onset: datetime | None,
    by: str,
    note: str,
    run: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Say how a rollout of RELEASE really went.

    Good: it should have been kept. Bad: it should have been stopped. RELEASE may also be a service, a DAG id
    or a run id. `report`, `backtest --ledger` and `review-change` go by it.

    A later label replaces an earlier one, which `history` goes on showing. What the incident commander rolled
    back counts as bad until somebody says otherwise; what the rule rolled back has no label by itself.

    \b
    Examples:
      rollback-budget label model-v42 good --note "the judge was down, nothing was wrong"
      rollback-budget label model-v41 bad --onset 2026-09-16T14:20:00Z --by alice

    Exits 0, or 1 when there is no such rollout, it has not ended, or the onset lies outside of it.
    """
    from rollback_budget.ledger.views import LoggedLabel
    from rollback_budget.model.label import Label

    by = by.strip()
    if not by:
        raise click.BadParameter("say who: it may not be empty", param_hint="--by")
    ledger = open_ledger(url)
    rollout, *others = find_rollouts(ledger, release, run)
    given = LoggedLabel(Label(went), onset, by, note.strip(), datetime.now(UTC))
    earlier = ledger.labels.of(rollout.key)
    ledger.labels.add(rollout.key, given)
    warnings = _warnings(onset, ledger.look_spans.of([rollout.key]).get(rollout.key))
    replaced = earlier[-1] if earlier else None
    if as_json:
        document = {
            "dag_id": rollout.key.dag_id,
            "run_id": rollout.key.run_id,
            "release": rollout.spec.release,
            **label_json(given),
            "replaces": None if replaced is None else label_json(replaced),
            "other_runs": [other.key.run_id for other in others],
            "warnings": warnings,
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    since = "" if onset is None else f" since {utc_second(onset)}"
    click.echo(printable(f"{rollout.spec.release} ({rollout.key}) is labelled {went}{since}, by {by}"))
    if replaced is not None:
        said = f"{replaced.label.value} of {utc_second(replaced.at)} by {replaced.by}"
        click.echo(printable(f"it replaces {said}, which stays in its history"))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if others:
        runs = some([other.key.run_id for other in others])
        click.echo(printable(f"other runs, labelled with --run: {runs}"), err=True)


def _warnings(onset: datetime | None, looks: LookSpan | None) -> list[str]:
    """Say where nobody watched any more when it went bad: after a promotion before the window's end."""
    if onset is None or looks is None or onset < looks.last:
        return []
    return [
        f"the last look at this rollout is of {utc_second(looks.last)}, and what went bad afterwards was not"
        " recorded: `backtest --ledger` cannot find it; if it went bad before, label it again with that onset"
    ]


def label_json(one: LoggedLabel) -> dict[str, str | None]:
    """Return one label as JSON."""
    return {
        "label": one.label.value,
        "onset": iso(one.onset),
        "by": one.by,
        "note": one.note,
        "at": iso(one.at),
    }
