"""``rollback-budget ledger``: set the ledger up and see whether it can be used."""

from __future__ import annotations

import os

import click

from rollback_budget.ledger.location import ledger_url
from rollback_budget.ledger.store import Ledger

_url = click.option(
    "--url",
    metavar="URL",
    help="SQLAlchemy URL of the ledger (default: ROLLBACK_BUDGET_LEDGER, then Airflow's configuration, then a"
    " SQLite file in AIRFLOW_HOME).",
)


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


def open_ledger(url: str | None) -> Ledger:
    """Return the ledger at ``url``, or where the environment says it is."""
    return Ledger(url or ledger_url(os.environ))
