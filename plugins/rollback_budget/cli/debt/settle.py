"""``rollback-budget debt waive`` and ``duplicate``: debts that are not paid by a proof of their own."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from rollback_budget.cli.common import by_option, json_option, parse_until, short_duration, url_option
from rollback_budget.cli.debt.common import debt_json, find_debt, minute
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.debt import changes
from rollback_budget.ledger.debt_views import Waiver
from rollback_budget.text import printable


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
    found = find_debt(ledger, fingerprint)
    changed = changes.waive(ledger.debts, found.fingerprint, Waiver(by.strip(), reason.strip(), end), now)
    if as_json:
        click.echo(json.dumps(debt_json(changed, now), indent=2))
        return
    click.echo(
        f"{printable(changed.budget)} ({printable(changed.service)}) is waived until {minute(end)},"
        f" for {short_duration(end - now)}"
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
    found, of = find_debt(ledger, fingerprint), find_debt(ledger, original)
    changed = changes.mark_duplicate(
        ledger.debts, found.fingerprint, of.fingerprint, by=by.strip(), at=now, detail=reason
    )
    if as_json:
        click.echo(json.dumps(debt_json(changed, now), indent=2))
        return
    click.echo(
        f"{printable(changed.budget)} ({printable(changed.service)}) is paid with {printable(of.budget)}"
    )
