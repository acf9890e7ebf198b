"""``rollback-budget ledger``: set the ledger up, see whether it can be used, and keep it small."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta

import click

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.url import ledger_url
from rollback_budget.text import plural

_url = click.option(
    "--url",
    metavar="URL",
    help="SQLAlchemy URL of the ledger (default: ROLLBACK_BUDGET_LEDGER, then Airflow's configuration, then a"
    " SQLite file in AIRFLOW_HOME).",
)


def _duration(_ctx: click.Context, _param: click.Parameter, value: str) -> timedelta:
    from rollback_budget.model.duration import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def ledger() -> None:
    """Set up and check the ledger, the record of what happened in rollouts."""


@ledger.command()
@_url
def migrate(url: str | None) -> None:
    """Create the ledger's tables, or bring them up to this version; running it again is harmless."""
    store = open_ledger(url)
    revision = store.migrate()
    click.echo(f"the ledger at {store.place} is at revision {revision}")


@ledger.command()
@_url
def check(url: str | None) -> None:
    """Say whether the ledger can be reached and is migrated; exits 1 when not."""
    store = open_ledger(url)
    revision = store.check()
    click.echo(f"the ledger at {store.place} is ready (revision {revision})")


@ledger.command()
@_url
@click.option(
    "--older-than",
    required=True,
    metavar="DURATION",
    callback=_duration,
    help="Delete looks of more than this ago: 90d, 720h.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def prune(url: str | None, older_than: timedelta, as_json: bool) -> None:
    """Delete old looks; evaluations, breaches with their samples, decisions and debts stay.

    The looks of a rollout are what its chart is drawn from, about 0.35 MB a day. Safe while watches run.

    \b
    Example:
      rollback-budget ledger prune --older-than 90d
    """
    store = open_ledger(url)
    before = datetime.now(UTC) - older_than
    with click.progressbar(length=1, label="pruning", file=sys.stderr) as bar:

        def show_progress(done: int, of: int) -> None:
            bar.length = of
            bar.update(done - bar.pos)

        deleted = store.looks.prune(before, show_progress)
    if as_json:
        click.echo(json.dumps({"deleted": deleted, "before": before.isoformat()}))
        return
    looks = plural(deleted, "look")
    click.echo(f"deleted {looks} before {before:%Y-%m-%d %H:%M} UTC from the ledger at {store.place}")


def open_ledger(url: str | None) -> Ledger:
    """Return the ledger at ``url``, or where the environment says it is."""
    return Ledger(url or ledger_url(os.environ))
