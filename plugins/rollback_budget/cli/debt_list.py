"""``rollback-budget debt list``: what is owed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from rollback_budget.cli.debt_text import debt_json, minute, ticket_text
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.words import json_option, shown, url_option


@click.command(name="list")
@url_option
@json_option
def list_(url: str | None, as_json: bool) -> None:
    """List every debt, the one that is due first at the head."""
    now = datetime.now(UTC)
    debts = open_ledger(url).debts()
    if as_json:
        click.echo(json.dumps([debt_json(one, now) for one in debts], indent=2))
        return
    if not debts:
        click.echo("no debts")
    for one in debts:
        click.echo(
            f"{one.fingerprint[:16]}  {one.state_at(now).value:9} {one.severity.value:9}"
            f" due {minute(one.due_at)}  {one.occurrences:3}x"
            f"  {shown(one.service)}: {shown(one.budget)}  {shown(ticket_text(one))}"
        )
