"""``rollback-budget debt list``: what is owed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from rollback_budget.cli.common import json_option, url_option
from rollback_budget.cli.debt.common import debt_json
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.ledger.debt_views import DebtState
from rollback_budget.text import printable

_STATES = click.Choice([state.value for state in DebtState])


@click.command(name="list")
@click.option("--service", metavar="NAME", help="Only those of this service.")
@click.option("--owner", metavar="NAME", help="Only those of this owner.")
@click.option("--overdue", is_flag=True, help="Only those that are owed, not waived, and past their date.")
@click.option(
    "--state", "states", type=_STATES, multiple=True, help="Only those in this state; may be repeated."
)
@url_option
@json_option
def list_(
    service: str | None,
    owner: str | None,
    overdue: bool,
    states: tuple[str, ...],
    url: str | None,
    as_json: bool,
) -> None:
    """List the debts, the one that is due first at the head; without --state, all of them.

    A line says: fingerprint, state, severity, when it is due or since when it is overdue, its age, how often
    it breached, service, owner, budget, ticket.

    \b
    Examples:
      rollback-budget debt list --overdue
      rollback-budget debt list --owner alice --state filed --state approved --json
    """
    from rollback_budget.debt.backlog import line
    from rollback_budget.debt.owners import owners_of

    now = datetime.now(UTC)
    ledger = open_ledger(url)
    debts = ledger.debts.every()
    owners = owners_of(ledger, debts, now)
    chosen = [
        one
        for one in debts
        if service in (None, one.service)
        and owner in (None, owners[one.service])
        and (not overdue or one.is_overdue(now))
        and (not states or one.state_at(now).value in states)
    ]
    if as_json:
        listed = [{**debt_json(one, now), "owner": owners[one.service]} for one in chosen]
        click.echo(json.dumps(listed, indent=2))
        return
    if not chosen:
        click.echo("no such debts" if debts else "no debts")
    for one in chosen:
        click.echo(printable(line(one, owners[one.service], now)))
