"""The commands that settle a debt, from the command line to the ledger and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rollback_budget.cases.case_id import sha256
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cli.main import cli
from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import EvalError, TransitionNotAllowedError
from rollback_budget.ledger.debt_views import Debt, DebtState, GateRun
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import EvalResults, LaunchGate
from tests.debt.factories import make_case, owe
from tests.support.rollouts import KEY, log_breach, make_breach, make_spec

pytestmark = pytest.mark.database

Run = Callable[..., Result]

#: Commands know no other clock than the real one.
NOW = datetime.now(UTC)
BREACHED_AT = NOW - timedelta(days=20)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(owner="alice"), BREACHED_AT - timedelta(hours=2))
    return ledger


@pytest.fixture
def run(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", ledger.url)
    monkeypatch.setenv("ROLLBACK_BUDGET_CASES", str(tmp_path / "cases"))
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *words: CliRunner().invoke(cli, ["debt", *words], catch_exceptions=False)


def write_results(file: Path, release: str, passed: Mapping[str, bool | None], debt: Debt) -> str:
    rows = [
        {
            "case_id": make_case(asked, debt).id,
            "release": release,
            "passed": outcome,
            "input_sha256": sha256(asked),
        }
        for asked, outcome in passed.items()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_red_green_proof_pays_the_debt_and_its_duplicates_once(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    debt, twin = owe(ledger, at=BREACHED_AT), owe(ledger, "p99", BREACHED_AT)
    assert (
        "is paid with latency.p95_delta_pct"
        in run("duplicate", twin.fingerprint[:12], "--of", debt.fingerprint[:12], "--by", "alice").output
    )
    draft = make_case("what?", debt, approved=False)
    CaseFolder(tmp_path / "cases").write(debt, [make_case("why?", debt), make_case("how?", debt), draft])
    red = write_results(tmp_path / "red.jsonl", "model-v42", {"why?": False, "how?": False}, debt)
    half = write_results(tmp_path / "half.jsonl", "model-v43", {"why?": True, "how?": False}, debt)
    green = write_results(tmp_path / "green.jsonl", "model-v44", {"why?": True, "how?": True}, debt)
    prove = ("prove", debt.fingerprint[:12], "--breached", red, "--by", "bob")

    refused = run(*prove, "--candidate", half)
    assert refused.exit_code == 1
    assert "is not green: passed 0 of 1 runs, 1 needed" in refused.output
    assert "stays detected" in refused.output
    accepted = run(*prove, "--candidate", green)
    assert accepted.exit_code == 0
    assert f"not counted, without an approved expectation: {draft.id}" in accepted.output
    assert "latency.p95_delta_pct (support-bot) is paid" in accepted.output
    said = json.loads(run(*prove, "--candidate", green, "--json").output)
    assert (said["proof"]["accepted"], said["debt"]["state"]) == (True, "paid")

    assert [proof.accepted for proof in ledger.proofs.of(debt.fingerprint)] == [False, True]
    story = json.loads(run("show", debt.fingerprint[:12], "--json").output)
    assert [event["event"] for event in story["events"]] == ["detected", "proven", "paid"]
    assert story["events"][1]["detail"] == "2 cases red on model-v42, green on model-v44"
    assert [case["state"] for case in story["cases"]].count("approved") == 2
    result = json.dumps({"findings": [{"debt": debt.fingerprint}]})
    ledger.gate_runs.add(GateRun("support-bot", "model-v45", "rollout_v45", "r", "block", NOW, result))
    assert (
        json.loads(run("show", debt.fingerprint[:12], "--json").output)["gate_runs"][0]["verdict"] == "block"
    )
    shown = run("show", debt.fingerprint[:12]).output
    assert "model-v45  rollout_v45 r" in shown
    assert "refused  " in shown
    assert "accepted  " in shown
    assert f"with {debt.fingerprint}" in run("show", twin.fingerprint[:12]).output


def test_what_came_back_is_not_paid_by_the_cases_that_did_not_see_it(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    debt = owe(ledger, at=BREACHED_AT)
    folder = CaseFolder(tmp_path / "cases")
    folder.write(debt, [make_case("why?", debt)])
    red = write_results(tmp_path / "red.jsonl", "model-v42", {"why?": False}, debt)
    green = write_results(tmp_path / "green.jsonl", "model-v43", {"why?": True}, debt)
    prove = ("prove", debt.fingerprint, "--breached", red, "--candidate")
    assert run(*prove, green).exit_code == 0
    again = datetime.now(UTC) + timedelta(days=1)
    log_breach(ledger, make_breach(again), RolloutKey("next", "r"), release="model-v43")
    log_debts(ledger, None, again)

    newer = write_results(tmp_path / "newer.jsonl", "model-v44", {"why?": True}, debt)
    with pytest.raises(EvalError, match=r"holds results of model-v42, and the debt breached on model-v43"):
        run(*prove, newer)
    refused = run("prove", debt.fingerprint, "--breached", green, "--candidate", newer)
    assert "is not red: failed 0 of 1 runs on the breached release" in refused.output
    after = ledger.debts.get(debt.fingerprint)
    assert after is not None
    assert after.state is DebtState.REOPENED


def test_results_are_read_as_the_services_launch_gate_reads_them(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    debt = owe(ledger, at=BREACHED_AT)
    columns = Columns(case_id="id", passed="ok", numbers=("latency",))
    gate = LaunchGate(results=EvalResults(path="{version}.csv"), columns=columns)
    ledger.rollouts.open(RolloutKey("next", "r"), make_spec(launch_gate=gate), NOW - timedelta(days=1))
    case = make_case("why?", debt)
    CaseFolder(tmp_path / "cases").write(debt, [case])
    table = tmp_path / "both.csv"
    rows = (f"{case.id},model-v42,fail,{sha256('why?')}", f"{case.id},model-v43,pass,{sha256('why?')}")
    table.write_text("\n".join(("id,release,ok,input_sha256", *rows)))
    proven = run("prove", debt.fingerprint, "--breached", str(table), "--candidate", str(table))
    assert (proven.exit_code, "is paid" in proven.output) == (0, True)


def test_a_waiver_is_shown_and_needs_an_end_within_90_days(ledger: Ledger, run: Run) -> None:
    debt = owe(ledger, at=BREACHED_AT)
    said = run("waive", debt.fingerprint[:8], "--until", "+14d", "--reason", "in review", "--by", "carol")
    assert "latency.p95_delta_pct (support-bot) is waived until" in said.output
    assert "waived    major" in run("list").output
    assert "in review" in run("show", debt.fingerprint[:8]).output
    assert json.loads(run("list", "--state", "waived", "--json").output)[0]["waiver"]["by"] == "carol"
    with pytest.raises(TransitionNotAllowedError, match="90 days at most"):
        run("waive", debt.fingerprint[:8], "--until", "+91d", "--reason", "x")


def test_the_list_is_narrowed_by_service_owner_state_and_being_overdue(ledger: Ledger, run: Run) -> None:
    owe(ledger, at=BREACHED_AT)
    other = RolloutKey("rollout_other", "r")
    recent = NOW - timedelta(days=2, hours=1)
    ledger.rollouts.open(other, make_spec(service="other-bot", owner="bob"), recent)
    log_breach(ledger, make_breach(recent), other)
    log_debts(ledger, None, recent)

    def services(*words: str) -> list[Any]:
        return [one["service"] for one in json.loads(run("list", "--json", *words).output)]

    assert services() == ["support-bot", "other-bot"]
    assert services("--service", "other-bot") == ["other-bot"]
    assert services("--owner", "alice") == ["support-bot"]
    assert services("--overdue") == ["support-bot"]
    assert services("--state", "detected", "--state", "paid") == ["support-bot", "other-bot"]
    assert services("--state", "paid") == []
    assert run("list", "--state", "paid").output == "no such debts\n"
    listed = run("list").output
    assert "overdue by" in listed
    assert "due in 7 d" in listed
    assert "2 d old" in listed


def test_the_report_is_a_table_a_picture_and_json(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    assert "no breach yet" in run("report").output
    owe(ledger, at=BREACHED_AT)
    said = run("report", "--out", str(tmp_path / "debt.svg"))
    assert "1 owed (1 overdue), 0 paid of 1 opened" in said.output
    assert "breaches that had a case before: 0 of 1 (0 %)" in said.output
    assert "alice" in said.output
    assert (tmp_path / "debt.svg").read_text().startswith("<svg")
    machine = json.loads(run("report", "--json", "--days", "3").output)
    assert [day["owed"] for day in machine["days"]] == [1, 1, 1]
    assert machine["owners"][0]["owner"] == "alice"
