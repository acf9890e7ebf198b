"""``rollback-budget debt prove``: pay a debt by a red-green proof."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import by_option, json_option, url_option
from rollback_budget.cli.debt.cases import folder_option, open_folder
from rollback_budget.cli.debt.common import debt_json, find_debt
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rollback_budget.debt.proof import Proof, ProofRule
    from rollback_budget.ledger.debt_views import Debt
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.model.eval_columns import Columns

_FORMATS = click.Choice(["csv", "jsonl", "parquet", "inspect", "promptfoo"])


@click.command()
@click.argument("fingerprint")
@click.option(
    "--breached",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Results of the debt's cases on a release that breached: CSV, JSON Lines, Parquet, an Inspect AI log"
    " or promptfoo's JSON.",
)
@click.option(
    "--candidate",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Results of the same cases on the release that fixes it; may be the same file.",
)
@click.option("--breached-release", metavar="NAME", help="Which one, where the file does not say.")
@click.option("--candidate-release", metavar="NAME", help="Which one, where the file does not say.")
@click.option("--format", "format_", type=_FORMATS, help="Of both files; by default by their suffix.")
@click.option(
    "--k",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs of a case that must fail on the breached release, at the least.",
)
@click.option(
    "--green-k",
    type=click.IntRange(min=1),
    help="Runs of a case that must pass on the candidate; by default every one.",
)
@folder_option
@by_option
@url_option
@json_option
def prove(
    fingerprint: str,
    breached: Path,
    candidate: Path,
    breached_release: str | None,
    candidate_release: str | None,
    format_: str | None,
    k: int,
    green_k: int | None,
    folder: Path | None,
    by: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Pay a debt: its approved cases fail on the release that breached, and pass on the candidate.

    The first characters of the debt's FINGERPRINT are enough. Every approved case counts, and the results
    must carry the hash of the input (`input_sha256`), so that a changed case proves nothing. A case that
    crashed is neither red nor green. The proof is kept in the ledger, accepted or not.

    Columns are called what `launch_gate: {columns: …}` of the service's newest rollout calls them.

    \b
    Examples:
      rollback-budget debt prove 313b94 --breached v42.jsonl --candidate v43.jsonl
      rollback-budget debt prove 313b94 --breached v42.eval --candidate v43.eval --k 3 --green-k 5

    Exits 0 when the debt is paid, 1 when the proof is refused; every reason is printed.
    """
    from rollback_budget.debt.proof import ProofRule

    ledger = open_ledger(url)
    found = find_debt(ledger, fingerprint)
    proof = _judged(
        ledger,
        found,
        (breached, candidate),
        (breached_release, candidate_release),
        format_,
        ProofRule(k, green_k),
        folder,
    )
    _settle(ledger, proof, by, as_json)


def _judged(
    ledger: Ledger,
    found: Debt,
    files: tuple[Path, Path],
    releases: tuple[str | None, str | None],
    format_: str | None,
    rule: ProofRule,
    folder: Path | None,
) -> Proof:
    from rollback_budget.debt import pay, proof
    from rollback_budget.evals.read import read_results

    breaches = ledger.breaches.of_debt(found.fingerprint, limit=1000)
    showed = proof.breached_releases(found, breaches, ledger.debt_events.of(found.fingerprint))
    columns = _columns(ledger, found)
    red = read_results(files[0], format=format_, columns=columns, release=releases[0])
    green = read_results(files[1], format=format_, columns=columns, release=releases[1])
    return proof.judge(
        found,
        open_folder(folder).cases_of(found),
        red,
        green,
        breached_release=pay.breached_release(red, releases[0], showed),
        candidate_release=pay.candidate_release(green, releases[1], showed),
        releases=showed,
        rule=rule,
    )


def _columns(ledger: Ledger, found: Debt) -> Columns:
    """Return how the launch gate of the service's newest rollout reads results; its numbers prove nothing."""
    from rollback_budget.model.eval_columns import AS_NAMED

    rollout = ledger.rollouts.newest_of(found.service, datetime.now(UTC))
    if rollout is None or rollout.spec.launch_gate is None:
        return AS_NAMED
    return rollout.spec.launch_gate.columns.model_copy(update={"numbers": ()})


def _settle(ledger: Ledger, proof: Proof, by: str, as_json: bool) -> None:
    from rich.console import Console

    from rollback_budget.debt.pay import pay

    now = datetime.now(UTC)
    after = pay(ledger, proof, by.strip(), now)
    if as_json:
        click.echo(json.dumps({"proof": proof.as_json(), "debt": debt_json(after, now)}, indent=2))
    else:
        Console(highlight=False).print(proof_table(proof))
        for reason in proof.every_reason():
            click.echo(printable(f"refused: {reason}"))
        if proof.left_out:
            click.echo(
                f"not counted, without an approved expectation: {printable(', '.join(proof.left_out))}"
            )
        if proof.is_accepted:
            click.echo(printable(f"{after.budget} ({after.service}) is {after.state.value}"))
        else:
            click.echo(
                f"{printable(after.budget)} ({printable(after.service)}) stays {after.state_at(now).value}"
            )
    if not proof.is_accepted:
        raise SystemExit(1)


def proof_table(proof: Proof) -> RenderableType:
    """Return a proof as a table, a row a case."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    headings = (
        "case",
        printable(proof.breached_release),
        printable(proof.candidate_release),
        "input",
        "proves",
    )
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    for case in proof.cases:
        table.add_row(
            Text(printable(case.case_id)),
            Text(
                f"{'red' if case.is_red else 'not red'}: {case.breached.say(failures=True)}",
                "red" if case.is_red else "",
            ),
            Text(
                f"{'green' if case.is_green else 'not green'}: {case.candidate.say(failures=False)}",
                "green" if case.is_green else "",
            ),
            Text("as approved" if case.is_in_data_set else "not as approved"),
            Text("no" if case.reasons else "yes"),
        )
    return table
