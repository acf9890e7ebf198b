"""``rollback-budget debt report``: the burn-down of eval debt."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import json_option, url_option
from rollback_budget.cli.debt.common import minute
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from rollback_budget.debt.report import Day, DebtReport

_BAR = 10


@click.command()
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Draw it, as .svg or .png.")
@click.option(
    "--days", type=click.IntRange(min=1), default=90, show_default=True, help="How many days to show."
)
@url_option
@json_option
def report(out: Path | None, days: int, url: str | None, as_json: bool) -> None:
    """Show how eval debt goes down: opened, paid, overdue by owner, and which breaches had a case before.

    A breach had a case before when its weakness had an approved eval case at the time: the share that
    should go to 100 %, because then nothing happens that evaluation does not know of.

    \b
    Examples:
      rollback-budget debt report
      rollback-budget debt report --out eval-debt.svg --days 180
    """
    from rollback_budget.debt.report import TRAILING, report_of

    if out is not None:
        from rollback_budget.charts import check_format, draw_burn_down

        check_format(out)
    made = report_of(open_ledger(url), datetime.now(UTC), days)
    if out is not None:
        draw_burn_down(made.days, TRAILING.days, out)
        click.echo(f"wrote {out}", err=True)
    if as_json:
        click.echo(json.dumps(made.as_json(), indent=2, ensure_ascii=False))
        return
    _print(made)


def _print(made: DebtReport) -> None:
    from rich.console import Console

    last = made.days[-1]
    overdue = sum(line.overdue for line in made.owners)
    paid = f"{last.paid} paid of {last.opened} opened"
    click.echo(f"{minute(made.as_of)}: {last.owed} owed ({overdue} overdue), {paid}")
    click.echo(f"breaches that had a case before: {_of(made.had_case, made.breaches)}")
    console = Console(highlight=False)
    if made.owners:
        console.print()
        console.print(_owners(made))
    console.print()
    console.print(_weeks(made))


def _owners(made: DebtReport) -> Table:
    table = _table("owner", "owed", "overdue", "waived", "oldest due")
    for line in made.owners:
        counts = (str(line.owed), str(line.overdue), str(line.waived))
        table.add_row(printable(line.owner), *counts, minute(line.oldest_due))
    return table


def _weeks(made: DebtReport) -> Table:
    """Return the last day of each week, newest last; the days of the chart are too many for a terminal."""
    table = _table("week until", "opened", "paid", "owed", "overdue", "had a case before (30 days)")
    for day in reversed(made.days[::-1][::7]):
        numbers = (day.opened, day.paid, day.owed, sum(day.overdue.values()))
        table.add_row(day.day.isoformat(), *map(str, numbers), _share(day))
    return table


def _share(day: Day) -> str:
    if day.share is None:
        return "no breach"
    full = round(day.share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {_of(day.had_case, day.breaches)}"


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.0f} %)" if whole else "no breach yet"


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        numeric = heading in ("opened", "paid", "owed", "overdue", "waived")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    return table
