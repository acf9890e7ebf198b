"""The task that drafts eval cases, on Airflow's connections and a real request log."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cli.debt.group import debt as debt_command
from rollback_budget.dags.eval_debt import eval_debt_dag
from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import CaseError
from rollback_budget.ledger.debt_views import DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.case_source import CaseLog, Cases, SqlCases
from rollback_budget.operators import draft_cases
from tests.support.rollouts import NOON, log_breach, make_breach

pytestmark = [pytest.mark.airflow, pytest.mark.database]

PREFIX = "AIRFLOW__ROLLBACK_BUDGET__"
LOG = CaseLog(
    table="requests",
    time="ts",
    time_type="epoch_s",
    output="output",
    trace_id="trace_id",
    latency="latency_s",
)


@pytest.fixture
def owing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger that Airflow knows of, with a slow release's breach in it, and the log of its requests."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv(f"{PREFIX}SQL_ALCHEMY_CONN", url)
    monkeypatch.setenv(f"{PREFIX}BACKLOG_FOLDER", str(tmp_path / "backlog"))
    monkeypatch.setenv(f"{PREFIX}CASES_FOLDER", str(tmp_path / "eval-cases"))
    requests = tmp_path / "requests.db"
    connection = {"conn_type": "sqlite", "host": str(requests)}
    monkeypatch.setenv("AIRFLOW_CONN_REQUEST_LOG", json.dumps(connection))
    # Now is an hour after the breach, wherever the tests run.
    monkeypatch.setattr(draft_cases, "utc_now", lambda: NOON + timedelta(hours=1))
    with sqlite3.connect(requests) as log:
        log.execute("CREATE TABLE requests (ts, version, latency_s, trace_id, input, output)")
        for number in range(40):
            row = (
                (NOON - timedelta(minutes=number)).timestamp(),
                "model-v42",
                3.0,
                f"trace-{number}",
                f"Summarise report {number} for jane@example.com",
                "A summary.",
            )
            log.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?)", row)
    ledger = Ledger(url)
    ledger.migrate()
    cases = Cases(source=SqlCases(conn_id="request_log", request_log=LOG), limit=5)
    log_breach(ledger, make_breach(), cases=cases)
    log_debts(ledger, None, NOON)
    return ledger


def run(try_number: int = 1) -> list[str]:
    ti = SimpleNamespace(
        dag_id="eval_debt", run_id="r", task_id="draft_cases", try_number=try_number, max_tries=2
    )
    drafted: list[str] = eval_debt_dag().get_task("draft_cases").execute({"ti": ti})
    return drafted


def test_the_task_drafts_cases_of_every_new_debt_once(owing: Ledger, tmp_path: Path) -> None:
    assert len(run()) == 1
    [debt] = owing.debts.every()
    assert debt.state is DebtState.DRAFTED
    cases = CaseFolder(tmp_path / "eval-cases").cases_of(debt)
    assert len(cases) == 5
    assert all("[redacted:email]" in str(case.input) for case in cases)
    assert run() == []


def test_a_debt_that_cannot_be_drafted_stops_no_other_and_is_named(
    owing: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Cases(
        source=SqlCases(conn_id="request_log", request_log=LOG.model_copy(update={"latency": None}))
    )
    log_breach(owing, make_breach(), RolloutKey("other", "r"), service="other-bot", cases=broken)
    log_debts(owing, None, NOON)
    with pytest.raises(CaseError, match="of other-bot"):
        run()
    assert {debt.service: debt.state for debt in owing.debts.every()} == {
        "support-bot": DebtState.DRAFTED,
        "other-bot": DebtState.DETECTED,
    }


def test_a_ticket_is_filed_whether_or_not_there_are_cases() -> None:
    dag = eval_debt_dag()
    assert dag.get_task("draft_cases").upstream_task_ids == {"log_debt"}
    assert dag.get_task("file_debt").upstream_task_ids == {"log_debt"}


def test_a_stub_is_tried_again_for_a_day_and_then_left_to_people(
    owing: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / "requests.db") as log:
        log.execute("UPDATE requests SET ts = ts - 86400")
    run()
    folder = CaseFolder(tmp_path / "eval-cases")
    [debt] = owing.debts.every()
    [stub] = folder.cases_of(debt)
    assert "holds no request that failed" in str(stub.missing)
    with sqlite3.connect(tmp_path / "requests.db") as log:
        log.execute("UPDATE requests SET ts = ts + 86400")
    monkeypatch.setattr(draft_cases, "utc_now", lambda: NOON + timedelta(days=2))
    assert run() == []
    monkeypatch.setattr(draft_cases, "utc_now", lambda: NOON + timedelta(hours=2))
    run()
    assert len(folder.cases_of(debt)) == 5


def call(*arguments: str, code: int = 0) -> Any:
    result = CliRunner(catch_exceptions=False).invoke(debt_command, arguments)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_the_command_line_drafts_shows_approves_and_exports(owing: Ledger, tmp_path: Path) -> None:
    [debt] = owing.debts.every()
    short = debt.fingerprint[:8]
    assert "no cases" in call("cases", short)
    drafted = call("draft", short, "--json")
    assert (drafted["cases"], drafted["state"]) == (5, "drafted")
    first, *rest = [case["id"] for case in call("cases", short, "--json")]
    assert first in call("cases", short)
    with pytest.raises(CaseError, match=first):
        call("export", "promptfoo", "--out", str(tmp_path / "out"))
    upload = tmp_path / "more.jsonl"
    upload.write_text('{"input": "one more, from bob@example.com"}\n')
    [added] = call("add-case", short, "--from", str(upload), "--json")["added"]
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    approved = call("approve", short, added, "--json-schema", str(schema), "--by", "ada", "--json")
    assert approved["debt"]["state"] == "drafted"
    call("approve", short, first, "--contains", "a", "--contains", "b", "--by", "ada")
    said = call("approve", short, "all", "--rubric", "is a summary", "--by", "ada")
    assert "is approved" in said
    assert owing.debts.every()[0].state is DebtState.APPROVED
    exported = call("export", "inspect", "--out", str(tmp_path / "out"), "--json")
    assert set(exported["cases"]) == {first, added, *rest}
    assert (tmp_path / "out" / "task.py").exists()
    call("approve", short, first, code=2)
