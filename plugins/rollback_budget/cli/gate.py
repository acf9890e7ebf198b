"""``rollback-budget gate``: would this release ship, what is expected of it, and shipping it all the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import budget_argument, json_option, url_option, utc_second
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from rollback_budget.gate.result import GateResult
    from rollback_budget.model.launch_gate import LaunchGate
    from rollback_budget.model.spec import RolloutSpec

#: Exit codes of ``gate check``; 2 and 3 mean something else in ``replay``.
ASKS, BLOCKS = 4, 5

_cases = click.option(
    "--cases", metavar="FOLDER", type=click.Path(path_type=Path), help="The folder of the eval cases."
)
_folder = click.option(
    "--gate", "folder", metavar="FOLDER", type=click.Path(path_type=Path), help="The folder of expectations."
)


@click.group()
def gate() -> None:
    """Judge a launch before it is made: eval cases of past breaches, and deltas against the baseline.

    Exit codes of `gate check`: 0 ships, 4 the incident commander would be asked, 5 blocked, 1 an error.
    """


@gate.command()
@budget_argument
@click.option("--results", metavar="FILE", type=click.Path(path_type=Path), help="Evaluation results.")
@click.option("--format", "format_", metavar="NAME", help="csv, jsonl, parquet, inspect or promptfoo.")
@click.option("--release", metavar="NAME", help="The candidate; by default the budget's release.")
@click.option("--baseline", metavar="NAME", help="By default the budget's baseline.")
@_cases
@_folder
@url_option
@json_option
def check(
    budget: Path,
    results: Path | None,
    format_: str | None,
    release: str | None,
    baseline: str | None,
    cases: Path | None,
    folder: Path | None,
    url: str | None,
    as_json: bool,
) -> int:
    """Print the verdict of the launch gate on BUDGET's release now; nothing is recorded.

    \b
    Example:
      rollback-budget gate check budgets/model-v42.yaml --results evals/model-v42.jsonl

    Exits 0 when it would ship, 4 when the incident commander would be asked, 5 when it is blocked.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.cli.ledger import open_ledger
    from rollback_budget.gate.bypass import bypass_now
    from rollback_budget.gate.check import check_launch, check_without_results
    from rollback_budget.gate.request import request_of
    from rollback_budget.ledger.url import cases_folder, gate_folder

    spec = _spec(load_budget(budget), release, baseline, results, format_)
    ledger = open_ledger(url)
    now = datetime.now(UTC)
    request = request_of(
        spec,
        ledger.debts.every(),
        now,
        cases_folder=cases or cases_folder(os.environ),
        gate_folder=folder or gate_folder(os.environ),
        bypass=bypass_now(ledger, spec.service, spec.release, now),
    )
    result = check_without_results(request)
    if result is None:
        if not as_json:
            click.echo("loading Great Expectations, which takes some seconds", err=True)
        result = check_launch(request, _open_engine)
    _print(result, as_json)
    return {"pass": 0, "ask": ASKS, "block": BLOCKS}[result.verdict.value]


@gate.command(name="compile")
@budget_argument
@_cases
@_folder
@url_option
def compile_(budget: Path, cases: Path | None, folder: Path | None, url: str | None) -> None:
    """Write what is expected of every release of BUDGET's service, one JSON file per debt, for git.

    Made of the approved cases, and of the budget that was breached where `launch_gate.measures` says how an
    evaluation measures it. Expectations that were written by hand stay as they are.

    \b
    Example:
      rollback-budget gate compile budgets/model-v42.yaml
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.cases.folder import CaseFolder
    from rollback_budget.cli.ledger import open_ledger
    from rollback_budget.gate.compile import recompile
    from rollback_budget.gate.expectations import GateFolder
    from rollback_budget.ledger.debt_views import DebtState
    from rollback_budget.ledger.url import cases_folder, gate_folder

    spec = load_budget(budget)
    case_files = CaseFolder(cases or cases_folder(os.environ))
    files = GateFolder(folder or gate_folder(os.environ))
    stored = files.read()
    debts = [debt for debt in open_ledger(url).debts.every() if debt.service == spec.service]
    if not debts:
        click.echo(printable(f"{spec.service} has no eval debt: nothing to expect"))
    for debt in debts:
        if debt.state is DebtState.DUPLICATE:
            continue
        made = recompile(stored.get(debt.fingerprint), debt, case_files, spec.launch_gate, spec.budgets)
        if not made.expectations:
            click.echo(printable(f"{debt.fingerprint[:16]}  {debt.budget}: no approved case yet, so no file"))
            continue
        file = files.write(made, case_files.file_of(debt).stem)
        number = len(made.cases.inputs) if made.cases else 0
        count = len(made.expectations)
        click.echo(
            f"{debt.fingerprint[:16]}  {printable(debt.budget)}: {plural(number, 'case')},"
            f" {plural(count, 'expectation')}  {file}"
        )


@gate.command()
@click.argument("release")
@click.option("--service", required=True, metavar="NAME", help="The service that the release is of.")
@click.option("--by", required=True, metavar="NAME", help="Who takes it on themselves.")
@click.option("--reason", required=True, metavar="TEXT", help="Why it cannot wait.")
@url_option
def bypass(release: str, service: str, by: str, reason: str, url: str | None) -> None:
    """Let RELEASE pass the launch gate for 24 hours, whatever its verdict; the bypass is itself an eval debt.

    \b
    Example:
      rollback-budget gate bypass model-v43 --service support --by ada --reason "fixes the leak of names"
    """
    from rollback_budget.cli.ledger import open_ledger
    from rollback_budget.gate.bypass import HOLDS_FOR, record_bypass

    now = datetime.now(UTC)
    made = record_bypass(open_ledger(url), service, release, by, reason, now)
    click.echo(
        f"{printable(release)} of {printable(service)} passes the gate until {utc_second(now + HOLDS_FOR)}"
    )
    click.echo(f"the debt of it: {made.debt_fingerprint[:16]}")


def _spec(
    spec: RolloutSpec, release: str | None, baseline: str | None, results: Path | None, format_: str | None
) -> RolloutSpec:
    """Return the spec with what the command line says otherwise."""
    from rollback_budget.model.launch_gate import EvalResults, LaunchGate

    launch_gate: LaunchGate | None = spec.launch_gate
    if results is not None:
        where = EvalResults.model_validate({"path": str(results), "format": format_})
        launch_gate = (
            LaunchGate(results=where)
            if launch_gate is None
            else launch_gate.model_copy(update={"results": where})
        )
    changes = {"release": release or spec.release, "baseline": baseline or spec.baseline}
    return spec.model_copy(update={**changes, "launch_gate": launch_gate})


def _open_engine(conn_id: str) -> Engine:
    from airflow.sdk import BaseHook

    from rollback_budget.exceptions import EvalError
    from rollback_budget.hooks.metric_source import engine_of

    try:
        return engine_of(conn_id, BaseHook.get_connection(conn_id).get_uri())
    except Exception as error:
        raise EvalError(
            f"connection {conn_id!r} of the results cannot be used here ({error}); name a file with"
            f" --results, or set AIRFLOW_CONN_{conn_id.upper()}"
        ) from error


def _print(result: GateResult, as_json: bool) -> None:
    from rollback_budget.gate.render import lines_of

    if as_json:
        click.echo(result.model_dump_json(indent=2))
        return
    for line in lines_of(result):
        click.echo(line)
