"""The gate's commands: what they print, what they write, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cli.debt.group import debt as debt_command
from rollback_budget.cli.gate import gate
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.budget import Severity
from tests.gate.factories import a_case, a_debt

pytestmark = pytest.mark.database

BUDGET = """
release: v43
baseline: v41
window: 24h
service: support
rollback_budget:
  quality:
    task_success_delta_pp: -2.0
    max_duration_min: 20
"""

Run = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return ledger


@pytest.fixture
def run(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a gate command on a ledger and folders of its own."""
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    monkeypatch.setenv("ROLLBACK_BUDGET_CASES", str(tmp_path / "cases"))
    monkeypatch.setenv("ROLLBACK_BUDGET_GATE", str(tmp_path / "gate"))
    (tmp_path / "budget.yaml").write_text(BUDGET)
    return lambda *arguments: CliRunner().invoke(gate, [str(one) for one in arguments], standalone_mode=False)


def owe(ledger: Ledger, severity: Severity) -> Debt:
    now = datetime.now(UTC)
    debt = replace(a_debt(severity=severity), due_at=now + timedelta(days=1))
    event = DebtEvent(debt.fingerprint, 1, DebtEventKind.DETECTED, now)
    ledger.debts.owe(debt.fingerprint, lambda _debt: (debt, event))
    return debt


def test_check_shows_pass_ask_and_block_by_its_exit_code(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    budget, results = tmp_path / "budget.yaml", tmp_path / "v43.csv"
    first = run("check", budget)
    assert first.return_value == 0
    assert "support has no eval debt" in first.output
    debt = owe(ledger, Severity.MAJOR)
    case = a_case("where is my refund?", debt)
    CaseFolder(tmp_path / "cases").write(debt, [case])
    assert run("check", budget).return_value == 5
    results.write_text(f"case_id,release,passed\n{case.id},v43,false\n")
    asks = run("check", budget, "--results", results)
    assert asks.return_value == 4
    assert case.id in asks.output
    assert "quality.task_success_delta_pp" in asks.output
    other = json.loads(run("check", budget, "--results", results, "--release", "v44", "--json").stdout)
    assert (other["verdict"], other["findings"][0]["rule"]) == ("block", "not_evaluated")
    results.write_text(f"case_id,release,passed\n{case.id},v43,true\n")
    assert run("check", budget, "--results", results).return_value == 0
    assert ledger.gate_runs.of("support") == []


def test_compile_writes_a_file_per_debt_and_keeps_what_was_written_by_hand(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    budget = tmp_path / "budget.yaml"
    assert "no eval debt" in run("compile", budget).output
    debt = owe(ledger, Severity.MAJOR)
    assert "no approved case yet" in run("compile", budget).output
    cases = CaseFolder(tmp_path / "cases")
    cases.write(debt, [a_case("where is my refund?", debt)])
    budget.write_text(BUDGET + "launch_gate:\n  results: {path: x.csv}\n  measures: {task_success: passed}\n")
    assert "1 case, 4 expectations" in run("compile", budget).output
    [file] = (tmp_path / "gate").iterdir()
    assert file.stem == cases.file_of(debt).stem
    document = json.loads(file.read_text())
    delta = document["expectations"][-1]
    assert (delta["kwargs"]["threshold"], delta["kwargs"]["column"]) == (-2.0, "passed")
    mine = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "score", "min_value": 0.5}}
    document["expectations"][0]["severity"] = "info"
    document["expectations"].append(mine)
    file.write_text(json.dumps(document))
    cases.write(debt, [a_case("where is my refund?", debt), a_case("another", debt)])
    assert "2 cases, 5 expectations" in run("compile", budget).output
    again = json.loads(file.read_text())["expectations"]
    assert again[0]["severity"] == "info"
    assert again[-1]["kwargs"] == mine["kwargs"]
    text = file.read_text()
    run("compile", budget)
    assert file.read_text() == text


def test_approving_more_says_that_the_gate_must_be_compiled_again(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    debt = owe(ledger, Severity.MAJOR)
    asked, another = a_case("where is my refund?", debt), a_case("where is my parcel?", debt)
    cases = CaseFolder(tmp_path / "cases")
    cases.write(debt, [asked, another.model_copy(update={"expectation": None})])
    approve = ["approve", debt.fingerprint, another.id, "--contains", "on its way", "--by", "ada"]
    assert "gate compile" not in CliRunner().invoke(debt_command, approve).output
    assert run("compile", tmp_path / "budget.yaml").exception is None
    assert "gate compile" in CliRunner().invoke(debt_command, approve).output


def test_bypass_lets_a_release_pass_and_becomes_a_debt(run: Run, ledger: Ledger, tmp_path: Path) -> None:
    owe(ledger, Severity.CRITICAL)
    budget = tmp_path / "budget.yaml"
    assert run("check", budget).return_value == 5
    done = run("bypass", "v43", "--service", "support", "--by", "ada", "--reason", "stops a leak")
    assert "passes the gate until" in done.output
    passed = run("check", budget)
    assert passed.return_value == 0
    assert "launched past the gate by ada (stops a leak)" in passed.output
    assert run("check", budget, "--release", "v44").return_value == 5
    assert [debt.metric for debt in ledger.debts.every() if debt.area == "launch_gate"] == ["bypass"]


@pytest.mark.parametrize(("by", "reason"), [(" ", "stops a leak"), ("ada", "now"), ("ada", " ")])
def test_bypass_refuses_to_go_without_a_name_or_a_reason(
    run: Run, ledger: Ledger, by: str, reason: str
) -> None:
    done = run("bypass", "v43", "--service", "support", "--by", by, "--reason", reason)
    assert "a launch past the gate needs" in str(done.exception)
    assert ledger.debts.every() == []
