"""``rollback-budget debt waive`` and ``duplicate``: debts that are not paid by a proof of their own."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime

import click

from rollback_budget.cli.debt_text import debt_json, minute, named_debt
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.words import json_option, parse_until, shown, span, url_option
from rollback_budget.ledger.debt_views import Waiver

by_option = click.option(
    "--by", metavar="NAME", default=getpass.getuser, help="Who; by default your user name."
)


@click.command()
@click.argument("fingerprint")
@click.option("--until", required=True, metavar="TIME", help="+14d or 2026-10-01T00:00:00Z; 90 days at most.")
@click.option("--reason", required=True, help="Why; it is kept with the debt.")
@by_option
@url_option
@json_option
def waive(fingerprint: str, until: str, reason: str, by: str, url: str | None, as_json: bool) -> None:
    """Let releases launch in spite of a debt until a time; it stays owed, and the waiver ends by itself.

    The first characters of the debt's FINGERPRINT are enough. A new waiver takes the place of an older one.

    \b
    Example:
      rollback-budget debt waive 313b94 --until +14d --reason "fix is in review" --by alice
    """
    now = datetime.now(UTC)
    end = parse_until(until, now)
    ledger = open_ledger(url)
    found = named_debt(ledger, fingerprint)
    changed = ledger.waive(found.fingerprint, Waiver(by.strip(), reason.strip(), end), now)
    if as_json:
        click.echo(json.dumps(debt_json(changed, now), indent=2))
        return
    click.echo(
        f"{shown(changed.budget)} ({shown(changed.service)}) is waived until {minute(end)},"
        f" for {span(end - now)}"
    )


@click.command()
@click.argument("fingerprint")
@click.option("--of", "original", required=True, metavar="FINGERPRINT", help="The debt that it is paid with.")
@click.option("--reason", help="Why they are the same.")
@by_option
@url_option
@json_option
def duplicate(
    fingerprint: str, original: str, reason: str | None, by: str, url: str | None, as_json: bool
) -> None:
    """Say that a debt is the same weakness as another one of its service, and is paid with it.

    If it breaches again after that payment, it was not: it is reopened, and owed by itself.

    \b
    Example:
      rollback-budget debt duplicate 313b94 --of 77ac01 --reason "both are the tokenizer"
    """
    now = datetime.now(UTC)
    ledger = open_ledger(url)
    found, of = named_debt(ledger, fingerprint), named_debt(ledger, original)
    changed = ledger.mark_duplicate(found.fingerprint, of.fingerprint, by=by.strip(), at=now, detail=reason)
    if as_json:
        click.echo(json.dumps(debt_json(changed, now), indent=2))
        return
    click.echo(f"{shown(changed.budget)} ({shown(changed.service)}) is paid with {shown(of.budget)}")
