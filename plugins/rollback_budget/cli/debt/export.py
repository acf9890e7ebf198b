"""``rollback-budget debt export``: approved cases for an evaluation tool."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rollback_budget.cli.common import json_option, url_option
from rollback_budget.cli.debt.cases import folder_option, open_folder
from rollback_budget.cli.debt.common import find_debt
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.registry import Group, names
from rollback_budget.text import plural, printable


@click.command()
@click.argument("format_", metavar="FORMAT", type=click.Choice(names(Group.EXPORTERS)))
@click.argument("fingerprints", metavar="[FINGERPRINT...]", nargs=-1)
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where to write.")
@click.option("--skip-drafts", is_flag=True, help="Leave out cases without approval, instead of refusing.")
@folder_option
@url_option
@json_option
def export(
    format_: str,
    fingerprints: tuple[str, ...],
    out: Path,
    skip_drafts: bool,
    folder: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Export the approved cases, of all debts or of some: FORMAT is inspect, promptfoo, deepeval or mlflow.

    Further formats are those that installed packages register in `rollback_budget.exporters`.

    What a case holds is data in every export: no template in it is rendered, no file that it names is read.

    \b
    Example:
      rollback-budget debt export inspect --out evals/debt
      inspect eval evals/debt/task.py --model openai/gpt-5 --metadata release=model-v43

    Exits 1, and names them, when cases have no approved expectation.
    """
    from rollback_budget.cases.export.approved import approved_only
    from rollback_budget.cases.export.write import write_export

    files = open_folder(folder)
    cases = files.read()
    if fingerprints:
        ledger = open_ledger(url)
        wanted = {find_debt(ledger, beginning).fingerprint for beginning in fingerprints}
        cases = {debt: each for debt, each in cases.items() if debt in wanted}
    approved = approved_only(cases, skip_drafts=skip_drafts)
    left_out = len({case.id for each in cases.values() for case in each}) - len(approved)
    written = write_export(approved, format_, out)
    if as_json:
        ids = [one.case.id for one in approved]
        document = {"cases": ids, "left_out": left_out, "files": [str(file) for file in written]}
        click.echo(json.dumps(document, indent=2))
        return
    for file in written:
        click.echo(printable(str(file)))
    rest = f", {left_out} left out without approval" if left_out else ""
    click.echo(f"{plural(len(approved), 'case')}{rest}")
