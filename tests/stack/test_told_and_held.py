"""Messages and suspensions on a real Airflow: real tasks, a real webhook, several users over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from demo.traffic import Behaviour
from demo.waiting import wait_for
from rollback_budget.engine.result import VerdictKind
from rollback_budget.ledger.records import FinalDecision
from tests.stack.field import RELEASE, Field, Scenario
from tests.support.inbox import Inbox, running_webhook

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

HANDOFF = {"escalation": {"human_handoff_delta_pct": 100, "max_duration": "4s"}}
HANDING_OFF = Behaviour(handoff=0.8, incident=0.0)
HELD = "escalation.human_handoff_delta_pct"
ADMIN, VIEWER = "casey", "vera"

SCENARIOS = [
    Scenario(
        "told",
        120,
        HANDOFF,
        HANDING_OFF,
        {
            "decision": {"tier_b_breach": "incident_commander_decision_within_20s"},
            "notify": [{"notifier": "http", "conn_id": "hook"}],
        },
    ),
    Scenario("held", 45, HANDOFF, HANDING_OFF),
]


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with running_webhook() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, inbox: Inbox) -> Iterator[Field]:
    hook = f'{{"conn_type": "http", "host": "http://127.0.0.1:{inbox.port}"}}'
    field = Field(
        tmp_path_factory.mktemp("told"),
        SCENARIOS,
        environment={"AIRFLOW_CONN_HOOK": hook},
        users={ADMIN: "admin", "robin": "op", VIEWER: "viewer"},
    )
    try:
        field.start()
        yield field
    finally:
        field.stop()


def ask(field: Field, method: str, path: str, user: str | None, body: object = None) -> httpx.Response:
    headers = {} if user is None else {"Authorization": f"Bearer {field.stack.api.token(user)}"}
    url = f"{field.stack.url}/rollback-budget{path}"
    return httpx.request(method, url, json=body, headers=headers, timeout=30, trust_env=False)


def hold(until: timedelta = timedelta(hours=1), **changes: Any) -> dict[str, Any]:
    end = (datetime.now(UTC) + until).isoformat()
    return {"budget": HELD, "until": end, "reason": "load test", **changes}


def test_a_suspension_over_http_keeps_a_bad_metric_from_breaching(field: Field) -> None:
    path = "/api/dags/rollout_held/suspensions"
    answer = ask(field, "POST", path, ADMIN, hold())
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["by"], made["budget"], made["active"]) == (ADMIN, HELD, True)
    field.trigger("told")
    field.trigger("held")
    assert field.end("held", timeout_s=240) == "success"
    assert field.final("held") is FinalDecision.PROMOTED
    [logged] = wait_for(lambda: field.ledger.evaluations(field.key("held")), "the verdict", timeout_s=60)
    [budget] = logged.evaluation.budgets
    assert logged.evaluation.verdict is VerdictKind.HEALTHY
    assert budget.suspended is not None
    assert (budget.suspended.by, budget.suspended_looks) == (ADMIN, budget.looks)
    assert [one.id for one in field.ledger.suspensions_of(field.key("held"))] == [made["id"]]


def test_everybody_on_call_is_told_once_of_every_step_to_the_rollback(field: Field, inbox: Inbox) -> None:
    wanted = {"breach", "review_opened", "deadline_near", "decided", "rolled_back"}
    wait_for(lambda: wanted <= set(inbox.events(RELEASE)), f"{wanted}", timeout_s=240)
    assert sorted(inbox.events(RELEASE)) == sorted(wanted)
    told = {one["event"]: one for one in inbox.posted}
    assert "the deadline decided: Roll back now" in told["decided"]["sentence"]
    assert "No answer by" in told["review_opened"]["sentence"]
    assert "/dags/rollout_told/runs/" in told["rolled_back"]["link"]
    key = field.key("told")
    [review] = field.ledger.reviews(key)
    assert review.round == 1
    assert {one.error for one in field.ledger.notifications(key)} == {None}
    assert field.stack.wait_for_run("rollout_told", field.runs["told"]) == "success"


def test_no_route_is_open_and_only_editors_change_anything(field: Field) -> None:
    path = "/api/dags/rollout_held/suspensions"
    [made, *_] = ask(field, "GET", f"{path}?every=true", ADMIN).json()
    requests = [("GET", path, None), ("POST", path, hold()), ("DELETE", f"{path}/{made['id']}", None)]
    for method, where, body in requests:
        assert ask(field, method, where, None, body).status_code == 401
    for where in ("/docs", "/redoc", "/openapi.json", "/", "/api/dags"):
        assert ask(field, "GET", where, None).status_code in (401, 404)
        assert ask(field, "GET", where, ADMIN).status_code == 404
    assert [ask(field, method, where, VIEWER, body).status_code for method, where, body in requests] == [
        200,
        403,
        403,
    ]
    assert len(field.ledger.suspensions()) == 1


def test_what_cannot_be_suspended_is_refused_with_a_reason(field: Field) -> None:
    path = "/api/dags/rollout_told/suspensions"
    for body in (hold(timedelta(hours=-1)), hold(reason=" "), hold(by="somebody else"), {"budget": HELD}):
        answer = ask(field, "POST", path, ADMIN, body)
        assert answer.status_code in (400, 422), answer.text
    other = ask(field, "GET", "/api/dags/rollout_held/suspensions?every=true", ADMIN).json()[0]
    assert ask(field, "DELETE", f"{path}/{other['id']}", ADMIN).status_code == 404


def test_an_early_end_and_who_did_what_are_in_airflows_audit_log(field: Field) -> None:
    path = "/api/dags/rollout_held/suspensions"
    made = ask(field, "POST", path, "robin", hold()).json()
    ended = ask(field, "DELETE", f"{path}/{made['id']}?reason=over", ADMIN).json()
    assert (ended["active"], ended["ended_by"], ended["ended_reason"]) == (False, ADMIN, "over")
    logs = field.stack.api.call("GET", "/eventLogs?dag_id=rollout_held&limit=1000")["event_logs"]
    said = {(log["event"], log["owner"]) for log in logs}
    assert {("rollback_budget_suspend", "robin"), ("rollback_budget_resume", ADMIN)} <= said
