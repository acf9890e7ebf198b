"""The launch gate as a task: it passes, asks the commander, or fails the run; its own process judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from rollback_budget.cases.folder import CaseFolder
from rollback_budget.clock import utc_now
from rollback_budget.common.xcom import Tasks
from rollback_budget.debt.changes import waive
from rollback_budget.gate.compile import compile_debt
from rollback_budget.gate.expectations import GateFolder
from rollback_budget.gate.request import GateRequest, request_of
from rollback_budget.gate.result import GateResult
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Severity
from rollback_budget.model.launch_gate import EvalResults, LaunchGate
from rollback_budget.model.notify import Notify
from rollback_budget.model.spec import Commander, RolloutSpec
from rollback_budget.operators.launch_gate import HOLD, SHIP, LaunchGateOperator, question_body
from rollback_budget.operators.launch_gate_process import GateProcessInput
from tests.gate.factories import a_case, a_debt
from tests.support.inbox import running_webhook
from tests.support.rollouts import make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

KEY = RolloutKey("rollout", "run")
CASE = "where is my refund?"


class Bench:
    """One launch_gate task, with a ledger, eval cases and results of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.ledger.migrate()
        self.results = folder / "results.jsonl"
        self.spec = make_spec(
            service="support",
            release="model-v43",
            launch_gate=LaunchGate(results=EvalResults(path=str(self.results))),
            incident_commanders=(Commander(id="casey", name="Casey"),),
        )
        self.xcom: dict[tuple[str, str], Any] = {}
        self.conf: dict[str, Any] = {}
        self.debt: Debt | None = None

    def owe(self, severity: Severity, **changes: Any) -> str:
        """Owe one debt with one approved case; return the case's id."""
        now = utc_now()
        debt = a_debt(severity=severity, due_at=now + timedelta(days=3), detected_at=now, last_breach_at=now)
        self.debt = debt = replace(debt, **changes)
        self.ledger.debts.owe(
            debt.fingerprint,
            lambda _debt: (debt, DebtEvent(debt.fingerprint, 1, DebtEventKind.DETECTED, now)),
        )
        case = a_case(CASE, debt)
        cases = CaseFolder(self.folder / "eval-cases")
        cases.write(debt, [case])
        GateFolder(self.folder / "eval-gate").write(compile_debt(debt, cases, None, ()), "refund")
        return case.id

    def evaluate(self, case_id: str, passed: bool | None) -> None:
        row = {"case_id": case_id, "release": self.spec.release, "passed": passed}
        self.results.write_text(json.dumps(row) + "\n", encoding="utf-8")

    def context(self, try_number: int = 1) -> Any:
        self.xcom["preflight", "return_value"] = self.spec.canonical_json()
        ti = SimpleNamespace(
            id=UUID(int=1),
            try_number=try_number,
            map_index=-1,
            xcom_pull=lambda task_ids, key: self.xcom.get((task_ids, key)),
            xcom_push=lambda key, value: self.xcom.__setitem__(("launch_gate", key), value),
        )
        run = SimpleNamespace(dag_id=KEY.dag_id, run_id=KEY.run_id, conf=self.conf)
        return {"ti": ti, "task_instance": ti, "dag_run": run}

    @property
    def task(self) -> LaunchGateOperator:
        return LaunchGateOperator(task_id="launch_gate", tasks=Tasks())

    def run(self) -> GateResult:
        return GateResult.model_validate(self.task.execute(self.context()))

    def answer(self, option: str, by: str | None = "Casey", reason: str | None = "a flaky judge") -> Any:
        event = {
            "chosen_options": [option],
            "params_input": {"reason": reason},
            "responded_at": utc_now().isoformat(),
            "responded_by_user": None if by is None else {"id": by, "name": by},
        }
        return self.task.execute_complete(self.context(), event)

    def verdicts(self) -> list[str]:
        """Return what the ledger keeps of the gate."""
        return [run.verdict for run in self.ledger.gate_runs.of("support")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for option, value in (
        ("SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'ledger.db'}"),
        ("CASES_FOLDER", str(tmp_path / "eval-cases")),
        ("GATE_FOLDER", str(tmp_path / "eval-gate")),
    ):
        monkeypatch.setenv(f"AIRFLOW__ROLLBACK_BUDGET__{option}", value)
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS",
        SimpleNamespace(send=lambda **_message: None),
        raising=False,
    )
    bench = Bench(tmp_path)
    bench.ledger.rollouts.open(KEY, bench.spec, utc_now())
    return bench


def test_a_service_without_debt_ships_and_the_ledger_says_why(bench: Bench) -> None:
    assert "has no eval debt" in bench.run().reason
    [run] = bench.ledger.gate_runs.of("support")
    assert (run.verdict, run.release, run.run_id) == ("pass", bench.spec.release, KEY.run_id)


def test_a_budget_without_a_launch_gate_ships_until_its_service_has_debt(bench: Bench) -> None:
    bench.spec = bench.spec.model_copy(update={"launch_gate": None})
    assert bench.run().ships
    bench.owe(Severity.MINOR)
    with pytest.raises(AirflowFailException, match="does not say where evaluations leave their"):
        bench.run()


def test_a_candidate_that_passes_ships_and_is_judged_in_another_process(bench: Bench) -> None:
    bench.evaluate(bench.owe(Severity.CRITICAL), passed=True)
    loaded = "great_expectations" in sys.modules
    result = bench.run()
    assert (result.ships, result.cases) == (True, 1)
    assert ("great_expectations" in sys.modules) == loaded
    assert bench.verdicts() == ["pass"]


def test_a_failing_case_of_a_critical_debt_fails_the_run_and_names_case_and_breach(near: Bench) -> None:
    case_id = near.owe(Severity.CRITICAL)
    near.evaluate(case_id, passed=False)
    with pytest.raises(AirflowFailException) as blocked:
        near.run()
    assert case_id in str(blocked.value)
    assert "quality.task_success_delta_pp" in str(blocked.value)
    assert near.verdicts() == ["block"]


@pytest.fixture
def near(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Judge in this process: what its own process costs is paid by the tests that are about it."""

    def judge(_task: LaunchGateOperator, request: GateRequest) -> GateResult:
        from rollback_budget.gate.check import check_launch

        return check_launch(request, lambda _conn_id: pytest.fail("no table here"))

    monkeypatch.setattr(LaunchGateOperator, "_judge_apart", judge)
    return bench


def asked(bench: Bench) -> TaskDeferred:
    bench.evaluate(bench.owe(Severity.MAJOR), passed=False)
    with pytest.raises(TaskDeferred) as deferred:
        bench.run()
    assert bench.verdicts() == ["ask"]
    return deferred.value


def test_a_failing_case_of_a_major_debt_asks_the_commander_who_may_ship(near: Bench) -> None:
    asked(near)
    result = GateResult.model_validate(near.answer(SHIP))
    assert result.ships
    assert result.approval is not None
    assert (result.approval.by, result.approval.reason) == ("Casey", "a flaky judge")
    assert near.verdicts() == ["ask", "pass"]


def test_the_commander_is_notified_of_the_question_once_and_subscribers_of_the_answer(
    near: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    near.spec = near.spec.model_copy(update={"notify": (Notify(notifier="http", conn_id="hook"),)})
    with running_webhook() as inbox:
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", f"http://127.0.0.1:{inbox.port}")
        asked(near)
        with pytest.raises(TaskDeferred):
            near.run()
        near.answer(SHIP)
    assert inbox.events() == ["review_opened", "decided"]
    assert "does not ship" in inbox.posted[0]["sentence"]
    assert "Casey decided: Ship anyway: a flaky judge" in inbox.posted[1]["sentence"]


def test_a_messenger_that_fails_keeps_no_question_back(near: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    near.spec = near.spec.model_copy(update={"notify": (Notify(notifier="http", conn_id="nowhere"),)})
    asked(near)
    assert GateResult.model_validate(near.answer(SHIP)).ships


def test_the_question_waits_for_its_own_deadline(near: Bench) -> None:
    deferred = asked(near)
    _, arguments = deferred.trigger.serialize()
    assert arguments["default"] == HOLD
    deadline = datetime.fromisoformat(arguments["deadline"])
    assert timedelta(minutes=59) < deadline - utc_now() <= timedelta(hours=1)


@pytest.mark.parametrize(("option", "by"), [(HOLD, "Casey"), (HOLD, None), (SHIP, None)])
def test_a_no_and_silence_do_not_ship(near: Bench, option: str, by: str | None) -> None:
    asked(near)
    with pytest.raises(AirflowFailException, match="not shipped"):
        near.answer(option, by=by)
    assert near.verdicts() == ["ask", "block"]


def test_shipping_without_a_reason_is_asked_again_within_the_same_deadline(near: Bench) -> None:
    asked(near)
    before = near.xcom["launch_gate", "review_deadline"]
    with pytest.raises(TaskDeferred):
        near.answer(SHIP, reason="ok")
    assert near.xcom["launch_gate", "review_deadline"] == before


def test_a_question_that_was_closed_does_not_ship(near: Bench) -> None:
    asked(near)
    event = {
        "chosen_options": [SHIP],
        "params_input": {"reason": "closed by something"},
        "responded_at": utc_now().isoformat(),
        "responded_by_user": {"id": "casey", "name": "Casey"},
        "closed": {"by": "x", "reason": "y", "at": utc_now().isoformat()},
    }
    with pytest.raises(AirflowFailException):
        near.task.execute_complete(near.context(), event)


def test_a_retry_looks_for_an_answer_before_it_asks_again(bench: Bench) -> None:
    bench.evaluate(bench.owe(Severity.MAJOR), passed=False)
    with pytest.raises(TaskDeferred) as deferred:
        bench.task.execute(bench.context(try_number=2))
    assert deferred.value.method_name == "execute_again"


def test_an_answer_survives_a_retry_that_lost_what_was_asked(near: Bench) -> None:
    asked(near)
    near.xcom.clear()
    assert GateResult.model_validate(near.answer(SHIP)).ships


def test_what_has_shipped_is_not_judged_again(bench: Bench) -> None:
    bench.owe(Severity.CRITICAL)
    now = utc_now()
    bench.ledger.rollouts.record_shipped(KEY, now, now + bench.spec.window)
    assert bench.task.execute(bench.context()) is None
    assert bench.verdicts() == []


def test_a_run_may_be_launched_past_the_gate_and_owes_a_debt_for_it(near: Bench) -> None:
    near.owe(Severity.CRITICAL)
    near.conf = {"bypass_launch_gate": {"by": "ada", "reason": "stops a leak of names"}}
    result = near.run()
    assert result.ships
    assert "no_results" in {finding.rule for finding in result.findings}
    [bypass] = near.ledger.bypasses.of("support")
    debt = near.ledger.debts.get(bypass.debt_fingerprint)
    assert debt is not None
    assert (debt.area, debt.metric, debt.slice, debt.severity) == (
        "launch_gate",
        "bypass",
        near.spec.release,
        Severity.MAJOR,
    )
    assert [event.kind for event in near.ledger.debt_events.of(debt.fingerprint)] == [DebtEventKind.BYPASSED]


@pytest.mark.parametrize("given", ["hotfix", {"by": "ada"}, {"by": " ", "reason": "stops a leak"}, {}])
def test_a_bypass_without_a_name_and_a_reason_fails_the_run(bench: Bench, given: Any) -> None:
    bench.conf = {"bypass_launch_gate": given}
    with pytest.raises(AirflowFailException, match="a launch past the gate needs"):
        bench.run()
    assert bench.ledger.bypasses.of("support") == []


def test_a_waived_debt_is_shown_and_does_not_block(near: Bench) -> None:
    near.evaluate(near.owe(Severity.CRITICAL), passed=False)
    assert near.debt is not None
    now = utc_now()
    waive(
        near.ledger.debts,
        near.debt.fingerprint,
        Waiver("ada", "fix is in review", now + timedelta(days=1)),
        now,
    )
    assert near.run().ships


def test_results_in_a_table_are_read_through_an_airflow_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import create_engine, text

    case_id = bench.owe(Severity.CRITICAL)
    file = bench.folder / "evals.db"
    with create_engine(f"sqlite:///{file}").begin() as connection:
        connection.execute(text("CREATE TABLE evals (case_id, release, passed)"))
        values = {"id": case_id, "release": bench.spec.release}
        connection.execute(text("INSERT INTO evals VALUES (:id, :release, 0)"), values)
    monkeypatch.setenv("AIRFLOW_CONN_EVALS", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    # What a worker's processes have there, to keep tasks out of Airflow's database.
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "airflow-db-not-allowed:///")
    gate = LaunchGate(results=EvalResults(conn_id="evals", table="evals"))
    bench.spec = bench.spec.model_copy(update={"launch_gate": gate})
    with pytest.raises(AirflowFailException, match=f"{case_id} fails"):
        bench.run()


def test_a_gate_process_that_dies_does_not_ship(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.evaluate(bench.owe(Severity.CRITICAL), passed=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(AirflowException, match="the gate's process failed"):
        bench.run()


def test_the_question_shows_hostile_names_as_they_are() -> None:
    result = GateResult(
        verdict="ask",
        service="s",
        release="v",
        baseline="b",
        at=utc_now(),
        reason="<script>alert(1)</script> | [x](http://x)\n# big",
    )
    body = question_body(result, utc_now())
    assert "<script>" not in body
    assert r"\[x\]" in body
    assert "\n# big" not in body


def test_nothing_that_a_dag_imports_loads_great_expectations_or_pandas() -> None:
    modules = (
        "dags.rollout",
        "operators.launch_gate",
        "gate.check",
        "gate.bypass",
        "gate.render",
        "cli.gate",
    )
    imports = ", ".join(f"rollback_budget.{module}" for module in modules)
    code = (
        f"import sys, {imports}\nprint([n for n in ('great_expectations', 'pandas', 'numpy', 'pyarrow')"
        " if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """An environment in which every attempt to reach another host is written down and refused."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*args, **_):\n"
        f"    open({str(tmp_path / 'reached')!r}, 'a').write(repr(args[-1:]) + '\\n')\n"
        "    raise OSError('no network here')\n"
        "socket.socket.connect = socket.socket.connect_ex = lambda self, to: refuse(to)\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
    )
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return lambda: {**os.environ, "PYTHONPATH": paths}


def test_judging_reaches_no_host_outside(
    bench: Bench, watched: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    bench.evaluate(bench.owe(Severity.CRITICAL), passed=True)
    request = request_of(
        bench.spec,
        bench.ledger.debts.every(),
        utc_now(),
        cases_folder=tmp_path / "eval-cases",
        gate_folder=tmp_path / "eval-gate",
    )
    done = subprocess.run(
        [sys.executable, "-m", "rollback_budget.operators.launch_gate_process"],
        input=GateProcessInput(request=request).model_dump_json().encode(),
        capture_output=True,
        env=watched(),
        check=True,
    )
    assert GateResult.model_validate_json(done.stdout).ships
    assert not (tmp_path / "reached").exists()
    probe = [sys.executable, "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9')"]
    assert subprocess.run(probe, env=watched(), capture_output=True).returncode != 0
    assert (tmp_path / "reached").exists()


def test_the_frozen_spec_carries_the_gate(bench: Bench) -> None:
    assert RolloutSpec.model_validate_json(bench.spec.canonical_json()) == bench.spec
