"""``rollback-budget debt approve``: say what is expected of the answer to a case."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import by_option, json_option, url_option
from rollback_budget.cli.debt.cases import folder_option, open_folder
from rollback_budget.cli.debt.common import debt_json, find_debt
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.exceptions import CaseError
from rollback_budget.text import printable

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rollback_budget.cases.case import ExpectationKind


@click.command()
@click.argument("fingerprint")
@click.argument("case_ids", metavar="CASE...", nargs=-1, required=True)
@click.option("--exact", metavar="TEXT", help="The whole answer that is right.")
@click.option(
    "--contains", metavar="TEXT", multiple=True, help="What a right answer contains; may be repeated."
)
@click.option(
    "--json-schema",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A JSON schema that a right answer fits.",
)
@click.option("--rubric", metavar="TEXT", help="What a person, or a grading model, judges by.")
@folder_option
@by_option
@url_option
@json_option
def approve(
    fingerprint: str,
    case_ids: tuple[str, ...],
    exact: str | None,
    contains: tuple[str, ...],
    json_schema: Path | None,
    rubric: str | None,
    folder: Path | None,
    by: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Approve what is expected of cases of a debt; `all` means every one that waits for it.

    The first characters of FINGERPRINT and CASE are enough. A case that other debts have, too, is approved in
    all of them. Once every case is approved, so is the debt.

    \b
    Examples:
      rollback-budget debt approve 313b94 4f0c --contains "30 days" --by alice
      rollback-budget debt approve 313b94 all --rubric "Names no other customer" --by alice
    """
    from rollback_budget.debt.approval import approve as approve_cases
    from rollback_budget.debt.approval import expectation_of
    from rollback_budget.gate.expectations import GateFolder
    from rollback_budget.ledger.url import gate_folder

    kind, value = _expected(exact, contains, json_schema, rubric)
    now = datetime.now(UTC)
    ledger = open_ledger(url)
    found = find_debt(ledger, fingerprint)
    expectation = expectation_of(kind, value, by=by, at=now)
    changed = approve_cases(ledger, open_folder(folder), found, case_ids, expectation)
    after = find_debt(ledger, found.fingerprint)
    if as_json:
        approved = [case.document() for case in changed]
        click.echo(json.dumps({"approved": approved, "debt": debt_json(after, now)}, indent=2))
        return
    for case in changed:
        click.echo(printable(f"{case.id} is approved by {expectation.approved_by}: {kind.value}"))
    click.echo(printable(f"{after.budget} ({after.service}) is {after.state.value}"))
    if after.fingerprint in GateFolder(gate_folder(os.environ)).read():
        click.echo("the launch gate blocks until it knows of this: rollback-budget gate compile BUDGET")


def _expected(
    exact: str | None, contains: tuple[str, ...], json_schema: Path | None, rubric: str | None
) -> tuple[ExpectationKind, JsonValue]:
    from rollback_budget.cases.case import ExpectationKind

    ways: list[tuple[ExpectationKind, JsonValue]] = []
    if exact is not None:
        ways.append((ExpectationKind.EXACT, exact))
    if contains:
        ways.append((ExpectationKind.CONTAINS, contains[0] if len(contains) == 1 else list(contains)))
    if json_schema is not None:
        ways.append((ExpectationKind.JSON_SCHEMA, _read_schema(json_schema)))
    if rubric is not None:
        ways.append((ExpectationKind.RUBRIC, rubric))
    if len(ways) != 1:
        raise click.UsageError(
            "say what is expected in one way: --exact, --contains, --json-schema or --rubric"
        )
    return ways[0]


def _read_schema(path: Path) -> JsonValue:
    from rollback_budget.cases.jsonl import read_json

    try:
        schema: JsonValue = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: cannot be read as a JSON schema: {error}") from error
    return schema
