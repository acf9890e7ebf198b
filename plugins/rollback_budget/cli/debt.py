"""``rollback-budget debt``: what is owed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from rollback_budget.cli.ledger import open_ledger
from rollback_budget.errors import LedgerError
from rollback_budget.ledger.debt_records import Debt
from rollback_budget.ledger.records import LoggedBreach
from rollback_budget.ledger.store import Ledger

_url = click.option("--url", metavar="URL", help="SQLAlchemy URL of the ledger.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def debt() -> None:
    """Show eval debts: breaches that evaluation before the release did not catch."""


@debt.command(name="list")
@_url
@_json
def list_(url: str | None, as_json: bool) -> None:
    """List every debt, the one that is due first at the head."""
    debts = open_ledger(url).debts()
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in debts], indent=2))
        return
    if not debts:
        click.echo("no debts")
    for one in debts:
        click.echo(
            f"{one.fingerprint[:16]}  {one.state.value:9} {one.severity.value:9} due {_moment(one.due_at)}"
            f"  {one.occurrences:3}x  {one.service}: {one.budget}  {_ticket(one)}"
        )


@debt.command()
@click.argument("fingerprint")
@_url
@_json
def show(fingerprint: str, url: str | None, as_json: bool) -> None:
    """Show one debt with its newest breaches; the first characters of its FINGERPRINT are enough."""
    ledger = open_ledger(url)
    one = _named(ledger, fingerprint)
    breaches = ledger.debt_breaches(one.fingerprint)
    if as_json:
        click.echo(json.dumps({**_as_json(one), "breaches": [_breach_json(b) for b in breaches]}, indent=2))
        return
    click.echo(f"debt         {one.fingerprint}")
    click.echo(f"service      {one.service}")
    click.echo(f"budget       {one.budget}")
    click.echo(f"state        {one.state.value}")
    click.echo(f"severity     {one.severity.value}, due {_moment(one.due_at)}")
    click.echo(f"occurrences  {one.occurrences}, the first at {_moment(one.detected_at)}")
    click.echo(f"ticket       {_ticket(one)}")
    for logged in breaches:
        click.echo(f"breach       {_moment(logged.breach.breached_at)}  {logged.key}")
        click.echo(f"             {logged.breach.sentence}")


def _named(ledger: Ledger, beginning: str) -> Debt:
    matching = [one for one in ledger.debts() if one.fingerprint.startswith(beginning)]
    if len(matching) == 1:
        return matching[0]
    what = "several debts' fingerprints begin" if matching else "no debt's fingerprint begins"
    raise LedgerError(
        f"{what} with {beginning!r} in the ledger at {ledger.place}. See: rollback-budget debt list"
    )


def _ticket(one: Debt) -> str:
    if one.ticket is None:
        return "no ticket yet"
    if one.ticket.key is None:
        error = f": {one.ticket.last_error}" if one.ticket.last_error else ""
        return f"ticket {one.ticket.state.value}{error}"
    return one.ticket.url or one.ticket.key


def _as_json(one: Debt) -> dict[str, Any]:
    ticket = one.ticket
    return {
        "fingerprint": one.fingerprint,
        "service": one.service,
        "area": one.area,
        "metric": one.metric,
        "comparison": one.comparison.value,
        "slice": one.slice,
        "severity": one.severity.value,
        "state": one.state.value,
        "occurrences": one.occurrences,
        "detected_at": one.detected_at.isoformat(),
        "last_breach_at": one.last_breach_at.isoformat(),
        "due_at": one.due_at.isoformat(),
        "ticket": None
        if ticket is None
        else {
            "state": ticket.state.value,
            "tracker": ticket.tracker,
            "key": ticket.key,
            "url": ticket.url,
            "last_error": ticket.last_error,
        },
    }


def _breach_json(logged: LoggedBreach) -> dict[str, Any]:
    return {
        "fingerprint": logged.fingerprint,
        "dag_id": logged.key.dag_id,
        "run_id": logged.key.run_id,
        "release": logged.release,
        "baseline": logged.baseline,
        "breach": logged.breach.model_dump(mode="json"),
    }


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
