"""The eval-debt DAG's tasks, with the ledger and the tracker that Airflow's configuration names."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rollback_budget.errors import TicketError
from rollback_budget.ledger.debt_records import TicketState
from rollback_budget.ledger.store import Ledger
from rollback_budget.workflow.debt_dag import eval_debt_dag
from rollback_budget.workflow.log_breach import BREACH
from tests.support.jira_server import PROJECT, running_jira
from tests.support.network import find_free_port
from tests.support.rollouts import log_breach, make_breach

pytestmark = [pytest.mark.airflow, pytest.mark.service]

PREFIX = "AIRFLOW__ROLLBACK_BUDGET__"


@pytest.fixture
def owing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger that Airflow knows of, with one breach in it."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv(f"{PREFIX}SQL_ALCHEMY_CONN", url)
    monkeypatch.setenv(f"{PREFIX}BACKLOG_FOLDER", str(tmp_path / "backlog"))
    ledger = Ledger(url)
    ledger.migrate()
    log_breach(ledger, make_breach(), service=tmp_path.name)
    return ledger


def run(task_id: str, **context: Any) -> Any:
    ti = SimpleNamespace(dag_id="eval_debt", run_id="r", task_id=task_id, try_number=1)
    return eval_debt_dag().get_task(task_id).execute({"ti": ti, **context})


def test_a_breach_announced_often_is_one_debt_and_one_file(owing: Ledger, tmp_path: Path) -> None:
    events = {BREACH: [SimpleNamespace(extra={"breaches": ["x"]})] * 3}
    assert len(run("log_debt", triggering_asset_events=events)) == 1
    assert run("log_debt", triggering_asset_events=events) == []
    assert len(run("file_debt")) == 1
    assert run("file_debt") == []
    assert len(list((tmp_path / "backlog").glob("*.md"))) == 1


def test_a_jira_connection_files_a_ticket_once_jira_is_there(
    owing: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(f"{PREFIX}JIRA_CONN_ID", "jira_debt")

    def connect(port: int) -> None:
        connection = {
            "conn_type": "jira",
            "host": f"http://127.0.0.1:{port}",
            "login": "me",
            "password": "s3cret",
            "extra": {"project": PROJECT},
        }
        monkeypatch.setenv("AIRFLOW_CONN_JIRA_DEBT", json.dumps(connection))

    run("log_debt")
    connect(find_free_port())
    with pytest.raises(TicketError):
        run("file_debt")
    with running_jira(tmp_path) as jira:
        connect(jira.port)
        assert len(run("file_debt")) == 1
        [debt] = owing.debts()
        assert debt.ticket is not None
        assert debt.ticket.state is TicketState.FILED
        assert [issue["key"] for issue in jira.issues(debt.label)] == [debt.ticket.key]
