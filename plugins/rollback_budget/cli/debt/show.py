"""``rollback-budget debt show``: one debt's whole story."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import iso, json_option, url_option
from rollback_budget.cli.debt.cases import folder_option, open_folder
from rollback_budget.cli.debt.common import debt_json, find_debt, minute
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.cases.case import EvalCase
    from rollback_budget.ledger.debt_views import Debt, DebtEvent, GateRun, ProofRecord
    from rollback_budget.ledger.views import LoggedBreach

#: The newest ones are shown.
_GATES = 10


@click.command()
@click.argument("fingerprint")
@folder_option
@url_option
@json_option
def show(fingerprint: str, folder: Path | None, url: str | None, as_json: bool) -> None:
    """Show one debt: ticket, cases, proofs, launch gates, breaches, and everything that happened to it.

    The first characters of its FINGERPRINT are enough.
    """
    from rollback_budget.debt.owners import owners_of

    now = datetime.now(UTC)
    ledger = open_ledger(url)
    found = find_debt(ledger, fingerprint)
    owner = owners_of(ledger, [found], now)[found.service]
    breaches = ledger.breaches.of_debt(found.fingerprint)
    events, proofs = ledger.debt_events.of(found.fingerprint), ledger.proofs.of(found.fingerprint)
    gates = ledger.gate_runs.about(found.fingerprint)[-_GATES:]
    files = open_folder(folder)
    cases = files.cases_of(found)
    if as_json:
        document = {
            **debt_json(found, now),
            "owner": owner,
            "cases": [_case_json(case) for case in cases],
            "proofs": [_proof_json(proof) for proof in proofs],
            "gate_runs": [_gate_json(gate) for gate in gates],
            "breaches": [_breach_json(logged) for logged in breaches],
            "events": [_event_json(event) for event in events],
        }
        click.echo(json.dumps(document, indent=2))
        return
    _print_debt(found, owner, now)
    for case in cases:
        _line("case", f"{case.id}  {_case_state(case)}")
    if not cases:
        _line("case", f"none in {files.path}")
    for proof in proofs:
        _line("proof", _proof_text(proof))
    for gate in gates:
        _line(
            "launch gate", f"{gate.verdict}  {minute(gate.at)}  {gate.release}  {gate.dag_id} {gate.run_id}"
        )
    for logged in breaches:
        _line("breach", f"{minute(logged.breach.breached_at)}  {logged.release}  {logged.key}")
        _line("", logged.breach.sentence)
    for event in events:
        by = f" by {event.by}" if event.by else ""
        text = f": {event.detail}" if event.detail else ""
        _line(minute(event.at), f"{event.kind.value}{by}{text}")


def _print_debt(found: Debt, owner: str, now: datetime) -> None:
    from rollback_budget.debt.backlog import ticket_with_error

    overdue = ", overdue" if found.is_overdue(now) else ""
    _line("debt", found.fingerprint)
    _line("service", f"{found.service}, owner {owner}")
    _line("budget", found.budget)
    _line("state", found.state_at(now).value)
    if found.waiver is not None:
        held = "waived" if found.is_waived(now) else "was waived"
        _line(
            "waiver", f"{held} until {minute(found.waiver.until)} by {found.waiver.by}: {found.waiver.reason}"
        )
    if found.duplicate_of is not None:
        _line("duplicate of", found.duplicate_of)
    _line("severity", f"{found.severity.value}, due {minute(found.due_at)}{overdue}")
    if found.paid_at is not None:
        _line("paid", minute(found.paid_at))
    _line("occurrences", f"{found.occurrences}, the first at {minute(found.detected_at)}")
    _line("ticket", ticket_with_error(found))


def _line(name: str, text: str) -> None:
    click.echo(f"{name:21} {printable(text)}")


def _case_state(case: EvalCase) -> str:
    if case.missing is not None:
        return f"stub: {case.missing}"
    if case.expectation is None:
        return "draft"
    return f"approved by {case.expectation.approved_by}"


def _proof_text(proof: ProofRecord) -> str:
    releases = f"{proof.breached_release} → {proof.candidate_release}"
    if proof.accepted:
        return f"accepted  {minute(proof.at)}  {releases}  by {proof.by}"
    reasons = json.loads(proof.proof).get("every_reason", [])
    return f"refused  {minute(proof.at)}  {releases}  by {proof.by}: {'; '.join(reasons)}"


def _case_json(case: EvalCase) -> dict[str, Any]:
    return {
        "id": case.id,
        "state": "stub" if case.missing is not None else "approved" if case.is_approved else "draft",
        "approved_by": None if case.expectation is None else case.expectation.approved_by,
    }


def _proof_json(proof: ProofRecord) -> dict[str, Any]:
    return {
        "at": iso(proof.at),
        "by": proof.by,
        "cycle": proof.cycle,
        "accepted": proof.accepted,
        "digest": proof.digest,
        "breached_release": proof.breached_release,
        "candidate_release": proof.candidate_release,
        "proof": json.loads(proof.proof),
    }


def _gate_json(gate: GateRun) -> dict[str, Any]:
    return {
        "at": iso(gate.at),
        "verdict": gate.verdict,
        "release": gate.release,
        "dag_id": gate.dag_id,
        "run_id": gate.run_id,
    }


def _event_json(event: DebtEvent) -> dict[str, Any]:
    return {
        "at": iso(event.at),
        "event": event.kind.value,
        "cycle": event.cycle,
        "by": event.by,
        "detail": event.detail,
        "breach": event.breach_fingerprint,
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
