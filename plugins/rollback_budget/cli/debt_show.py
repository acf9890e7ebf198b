"""``rollback-budget debt show``: one debt's whole story."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from rollback_budget.cli.debt_text import debt_json, minute, named_debt, ticket_text
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.words import json_option, shown, url_option
from rollback_budget.ledger.records import LoggedBreach


@click.command()
@click.argument("fingerprint")
@url_option
@json_option
def show(fingerprint: str, url: str | None, as_json: bool) -> None:
    """Show one debt with its newest breaches; the first characters of its FINGERPRINT are enough."""
    now = datetime.now(UTC)
    ledger = open_ledger(url)
    one = named_debt(ledger, fingerprint)
    breaches = ledger.debt_breaches(one.fingerprint)
    if as_json:
        click.echo(
            json.dumps({**debt_json(one, now), "breaches": [_breach_json(b) for b in breaches]}, indent=2)
        )
        return
    click.echo(f"debt         {one.fingerprint}")
    click.echo(f"service      {shown(one.service)}")
    click.echo(f"budget       {shown(one.budget)}")
    click.echo(f"state        {one.state_at(now).value}")
    click.echo(f"severity     {one.severity.value}, due {minute(one.due_at)}")
    click.echo(f"occurrences  {one.occurrences}, the first at {minute(one.detected_at)}")
    click.echo(f"ticket       {shown(ticket_text(one))}")
    for logged in breaches:
        click.echo(f"breach       {minute(logged.breach.breached_at)}  {logged.key}")
        click.echo(f"             {shown(logged.breach.sentence)}")


def _breach_json(logged: LoggedBreach) -> dict[str, Any]:
    return {
        "fingerprint": logged.fingerprint,
        "dag_id": logged.key.dag_id,
        "run_id": logged.key.run_id,
        "release": logged.release,
        "baseline": logged.baseline,
        "breach": logged.breach.model_dump(mode="json"),
    }
