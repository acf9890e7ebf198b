"""The daily DAG of eval debt: real tasks, a real ledger and webhook; the tracker may be unavailable."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException

from rollback_budget.dags.eval_debt_reconcile import eval_debt_reconcile_dag
from rollback_budget.debt.ageing import AgeingStep, step_of
from rollback_budget.debt.changes import waive
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Severity
from rollback_budget.model.notify import BY_DEFAULT, Event, Notify
from rollback_budget.model.spec import Commander
from tests.support.inbox import Inbox, running_webhook
from tests.support.network import find_free_port
from tests.support.rollouts import log_breach, make_breach, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.service]

PREFIX = "AIRFLOW__ROLLBACK_BUDGET__"
ROOT = Path(__file__).resolve().parents[2]
#: Tasks know no other clock than the real one.
NOW = datetime.now(UTC)
EVERYTHING = Notify(notifier="http", conn_id="hook", events=(*BY_DEFAULT, Event.DEBT_BACKLOG))


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with running_webhook() as inbox:
        connection = {"conn_type": "http", "host": f"http://127.0.0.1:{inbox.port}"}
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps(connection))
        yield inbox


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger that Airflow knows of, and a folder for the local backlog."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv(f"{PREFIX}SQL_ALCHEMY_CONN", url)
    monkeypatch.setenv(f"{PREFIX}BACKLOG_FOLDER", str(tmp_path / "backlog"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


def breach(ledger: Ledger, days_ago: float, service: str = "support-bot", **changes: Any) -> None:
    """Log a breach of a service whose newest rollout sends everything to the webhook."""
    key = RolloutKey(f"rollout_{service}", "r")
    at = NOW - timedelta(days=days_ago)
    commanders = (Commander(id="cora", name="Cora"),)
    spec = make_spec(service=service, owner="alice", incident_commanders=commanders, notify=(EVERYTHING,))
    ledger.rollouts.open(key, spec, at - timedelta(hours=1))
    log_breach(ledger, make_breach(at, **changes), key)


def run(task_id: str, try_number: int = 1) -> Any:
    ti = SimpleNamespace(dag_id="eval_debt_reconcile", run_id="r", task_id=task_id, try_number=try_number)
    return eval_debt_reconcile_dag().get_task(task_id).execute({"ti": ti})


def events_of(inbox: Inbox) -> list[str]:
    return inbox.events()


def test_days_off_are_caught_up_on_and_every_subscriber_is_notified_once(
    ledger: Ledger, inbox: Inbox
) -> None:
    breach(ledger, days_ago=14)
    breach(ledger, days_ago=6, budget="latency.p99_delta_pct", metric="p99")
    for _ in range(2):
        run("log_debt")
        run("age_debt")
        run("post_backlog")
    assert sorted(events_of(inbox)) == ["debt_backlog", "debt_due", "debt_overdue"]
    texts = {body["event"]: body["text"] for body in inbox.posted}
    assert "latency.p95_delta_pct (critical): it is overdue since" in texts["debt_overdue"]
    assert "owner: alice; incident commander: Cora" in texts["debt_overdue"]
    assert "latency.p99_delta_pct (major): half of its time is over" in texts["debt_due"]
    assert "2 eval debts owed by alice: 1 overdue, 0 waived" in texts["debt_backlog"]
    assert "latency.p95_delta_pct: critical, overdue by 4 d, no ticket yet" in texts["debt_backlog"]

    late, young = ledger.debts.every()
    assert late.severity is Severity.CRITICAL
    assert [step_of(one) for one in ledger.debt_events.of(late.fingerprint)][1:] == list(AgeingStep)
    assert [step_of(one) for one in ledger.debt_events.of(young.fingerprint)][1:] == [AgeingStep.HALF_TIME]


def test_a_message_that_did_not_arrive_is_sent_by_the_next_try(
    ledger: Ledger, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    breach(ledger, days_ago=11)
    run("log_debt")
    run("age_debt")
    there = f"http://127.0.0.1:{inbox.port}"
    for host in (f"http://127.0.0.1:{find_free_port()}", there, there):
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"conn_type": "http", "host": host}))
        if host == there:
            run("post_backlog", try_number=2)
        else:
            with pytest.raises(AirflowException, match="notifiers that were not reached"):
                run("post_backlog")
    assert sorted(events_of(inbox)) == ["debt_backlog", "debt_due"]


def test_a_waived_debt_is_listed_and_does_not_age(ledger: Ledger, inbox: Inbox) -> None:
    breach(ledger, days_ago=20)
    run("log_debt")
    (debt,) = ledger.debts.every()
    waive(ledger.debts, debt.fingerprint, Waiver("alice", "in review", NOW + timedelta(days=3)), NOW)
    assert run("age_debt") == []
    run("post_backlog")
    assert events_of(inbox) == ["debt_backlog"]
    assert "0 overdue, 1 waived" in inbox.posted[0]["text"]


def test_nothing_owed_sends_no_message(ledger: Ledger, inbox: Inbox) -> None:
    run("age_debt")
    run("post_backlog")
    assert inbox.posted == []


def test_a_tracker_that_is_down_holds_up_nothing_and_loses_nothing(
    ledger: Ledger, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breach(ledger, days_ago=14, service=tmp_path.name)
    run("log_debt")
    monkeypatch.setenv(f"{PREFIX}JIRA_CONN_ID", "jira_debt")
    unavailable = {
        "conn_type": "jira",
        "host": f"http://127.0.0.1:{find_free_port()}",
        "extra": {"project": "EVAL"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_JIRA_DEBT", json.dumps({**unavailable, "login": "me", "password": "x"}))
    with pytest.raises(TicketError):
        run("file_debt")
    run("age_debt")
    run("post_backlog")
    assert "debt_overdue" in events_of(inbox)

    monkeypatch.delenv(f"{PREFIX}JIRA_CONN_ID")
    assert run("file_debt") != []
    assert run("file_debt") == []
    (file,) = (tmp_path / "backlog").glob("*.md")
    assert "critical" in file.read_text()


def test_ageing_and_posting_do_not_wait_for_the_ticket_system() -> None:
    dag = eval_debt_reconcile_dag()
    ahead = dag.get_task("post_backlog").get_flat_relative_ids(upstream=True)
    assert ahead == {"log_debt", "age_debt"}
    assert dag.get_task("file_debt").upstream_task_ids == {"age_debt"}
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


def test_one_file_installs_both_dags() -> None:
    made = runpy.run_path(str(ROOT / "dags" / "eval_debt.py")).values()
    assert {one.dag_id for one in made if isinstance(one, DAG)} == {"eval_debt", "eval_debt_reconcile"}
