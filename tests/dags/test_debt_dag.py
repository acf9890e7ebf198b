"""The eval-debt DAG's tasks, with the ledger and the tracker that Airflow's configuration names."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from rollback_budget.clock import utc_now
from rollback_budget.dags.eval_debt import eval_debt_dag
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.operators.log_breach import BREACH
from rollback_budget.operators.ticket import LONGEST_WAIT
from tests.support.jira_cloud import EMAIL, TOKEN, running_jira_cloud
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
    assert "(created)" in run("file_debt")[0]
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
        assert run("file_debt")
        [debt] = owing.debts.every()
        assert debt.ticket is not None
        assert debt.ticket.state is TicketState.FILED
        assert [issue["key"] for issue in jira.issues(debt.label)] == [debt.ticket.key]


def connect_to_cloud(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    connection = {
        "conn_type": "jira",
        "host": url,
        "login": EMAIL,
        "password": TOKEN,
        "extra": {"project": "RB"},
    }
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(f"{PREFIX}JIRA_CONN_ID", "jira_debt")
    monkeypatch.setenv("AIRFLOW_CONN_JIRA_DEBT", json.dumps(connection))


def waits_until(task_id: str) -> datetime:
    with pytest.raises(TaskDeferred) as deferred:
        run(task_id)
    assert deferred.value.method_name == "execute_again"
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
    moment = arguments["moment"]
    assert isinstance(moment, datetime)
    return moment


@pytest.mark.parametrize("as_date", [False, True])
def test_a_rate_limit_is_waited_out_in_full_outside_of_any_worker_slot(
    owing: Ledger, monkeypatch: pytest.MonkeyPatch, as_date: bool
) -> None:
    wait = timedelta(seconds=4000)
    with running_jira_cloud() as jira:
        connect_to_cloud(monkeypatch, jira.url)
        run("log_debt")
        begun = utc_now()
        jira.limits = [format_datetime(begun + wait, usegmt=True) if as_date else "4000"]
        until = waits_until("file_debt")
        # A date has whole seconds.
        assert begun + wait - timedelta(seconds=1) <= until <= utc_now() + wait + timedelta(seconds=2)
        task = eval_debt_dag().get_task("file_debt")
        ti = SimpleNamespace(dag_id="eval_debt", run_id="r", task_id="file_debt", try_number=1)
        assert "(created)" in task.execute_again({"ti": ti}, event=None)[0]
        assert len(jira.issues) == 1


def test_no_task_waits_for_years(owing: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_jira_cloud() as jira:
        connect_to_cloud(monkeypatch, jira.url)
        run("log_debt")
        jira.limits = ["Wed, 21 Oct 2099 07:28:00 GMT"]
        assert waits_until("file_debt") <= utc_now() + LONGEST_WAIT + timedelta(seconds=2)


def test_filing_also_comments_and_a_debt_that_cannot_be_filed_does_not_keep_the_others_silent(
    owing: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/af")
    with running_jira_cloud() as jira:
        connect_to_cloud(monkeypatch, jira.url)
        run("log_debt")
        filed, reported = run("file_debt")
        assert "(created)" in filed
        assert "linked the DAG run" in reported
        (issue,) = jira.issues.values()
        assert issue.remote_links[0]["object"]["url"].startswith("https://airflow.example.com/af/dags/")
        jira.set_status(issue, "Done")
        key = RolloutKey("rollout_model_v42", "another")
        log_breach(owing, make_breach(metric="p50"), key, service=tmp_path.name, tickets={"project": "NOPE"})
        run("log_debt")
        with pytest.raises(TicketError, match="valid project is required"):
            run("file_debt")
        assert "does not pay" in issue.comments[0]["body"]
