"""``rollback-budget debt draft``, ``add-case`` and ``cases``: the eval cases of a debt."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import by_option, iso, json_option, url_option
from rollback_budget.cli.debt.common import find_debt
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rollback_budget.cases.case import EvalCase
    from rollback_budget.cases.folder import CaseFolder
    from rollback_budget.debt.drafting import DraftResult

#: Characters of a text in a table.
_SHOWN = 60

folder_option = click.option(
    "--cases",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder of the case files (default: ROLLBACK_BUDGET_CASES, then Airflow's configuration).",
)


def open_folder(folder: Path | None) -> CaseFolder:
    """Return the case files in ``folder``, or where the environment says they are."""
    from rollback_budget.cases.folder import CaseFolder
    from rollback_budget.ledger.url import cases_folder

    return CaseFolder(folder or cases_folder(os.environ))


@click.command()
@click.argument("fingerprint")
@click.option(
    "--budget",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read as this budget file says (`cases:`), instead of the one that the rollout was frozen with.",
)
@click.option(
    "--from",
    "upload",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Choose among the requests of this file (JSON Lines), instead of asking the source.",
)
@folder_option
@by_option
@url_option
@json_option
def draft(
    fingerprint: str,
    budget: Path | None,
    upload: Path | None,
    folder: Path | None,
    by: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Draft eval cases of a debt from the requests that failed while its budget burned.

    A diverse selection, redacted, and merged into the debt's file: existing cases stay. The eval-debt DAG
    does the same for every new debt. The source's connection is one of Airflow's (AIRFLOW_CONN_... will do).

    \b
    Examples:
      rollback-budget debt draft 313b94
      rollback-budget debt draft 313b94 --from failed.jsonl
    """
    from rollback_budget.debt.drafting import draft_debt

    ledger = open_ledger(url)
    found = find_debt(ledger, fingerprint)
    spec = None
    if budget is not None:
        from rollback_budget.budget_file import load_budget

        spec = load_budget(budget)
    if upload is not None:
        from rollback_budget.cases.upload import read_upload
        from rollback_budget.debt.drafting import draft_requests

        requests = read_upload(upload)
        settings = None if spec is None else spec.cases
        now = datetime.now(UTC)
        _report(
            draft_requests(
                ledger, open_folder(folder), found, requests, by=by, at=now, settings=settings, keep_all=False
            ),
            as_json,
        )
        return
    # Airflow takes seconds to start, and no other case command needs it.
    from rollback_budget.hooks.case_source import read_failing

    now = datetime.now(UTC)
    _report(draft_debt(ledger, open_folder(folder), found, read_failing, by=by, at=now, spec=spec), as_json)


@click.command(name="add-case")
@click.argument("fingerprint")
@click.option(
    "--from",
    "upload",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help='JSON Lines, a request a line: {"input": ..., "output": ..., "trace_id": ..., "slice": ...}',
)
@folder_option
@by_option
@url_option
@json_option
def add_case(
    fingerprint: str, upload: Path, folder: Path | None, by: str, url: str | None, as_json: bool
) -> None:
    """Make a case of every request in a file: redacted, capped, and beside the debt's other cases.

    \b
    Example:
      echo '{"input": "Where is my order?"}' > case.jsonl
      rollback-budget debt add-case 313b94 --from case.jsonl
    """
    from rollback_budget.cases.upload import read_upload
    from rollback_budget.debt.drafting import draft_requests

    ledger = open_ledger(url)
    found = find_debt(ledger, fingerprint)
    requests = read_upload(upload)
    now = datetime.now(UTC)
    _report(
        draft_requests(ledger, open_folder(folder), found, requests, by=by, at=now, keep_all=True), as_json
    )


@click.command()
@click.argument("fingerprint")
@folder_option
@url_option
@json_option
def cases(fingerprint: str, folder: Path | None, url: str | None, as_json: bool) -> None:
    """Show the eval cases of a debt; the first characters of its FINGERPRINT are enough."""
    found = find_debt(open_ledger(url), fingerprint)
    files = open_folder(folder)
    stored = files.cases_of(found)
    if as_json:
        click.echo(json.dumps([case.document() for case in stored], indent=2))
        return
    if not stored:
        click.echo(
            f"no cases in {files.path}; draft some: rollback-budget debt draft {found.fingerprint[:16]}"
        )
        return
    from rich.console import Console

    Console(highlight=False).print(_table(stored))
    for case in stored:
        if case.missing is not None:
            click.echo(printable(case.missing))
    click.echo(printable(str(files.file_of(found))))


def _table(stored: tuple[EvalCase, ...]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("case", "state", "slice", "input", "breached output", "expected"):
        # An id that is cut in two cannot be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading in ("case", "state"))
    for case in stored:
        state = "stub" if case.missing else "approved" if case.is_approved else "draft"
        expected = ""
        if case.expectation is not None:
            expectation = _short(case.expectation.value)
            expected = f"{case.expectation.kind.value}: {expectation} ({case.expectation.approved_by})"
        cells = (
            case.id,
            state,
            case.slice or "",
            _short(case.input),
            _short(case.breached_output),
            expected,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _short(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN else f"{one_line[: _SHOWN - 1]}…"


def _report(done: DraftResult, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "debt": done.debt.fingerprint,
            "state": done.debt.state.value,
            "file": str(done.file),
            "added": list(done.added),
            "cases": done.there,
            "why_no_content": done.why,
            "at": iso(datetime.now(UTC)),
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"{plural(len(done.added), 'new case')}, {done.there} in {printable(str(done.file))}")
    if done.why is not None:
        click.echo(printable(done.why))
    click.echo(f"{printable(done.debt.budget)} ({printable(done.debt.service)}) is {done.debt.state.value}")
