"""Answers, messages and suspensions on a real Airflow: a real webhook, several users over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from demo.traffic import Behaviour
from demo.waiting import wait_for
from rollback_budget.engine.evaluation import Breach, VerdictKind
from rollback_budget.ledger.views import FinalDecision, LoggedLook
from rollback_budget.targets.apply import Outcome
from tests.stack.airflow_harness import BASELINE, PATIENCE_S, RELEASE, Harness, Scenario
from tests.support.inbox import Inbox, running_webhook

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

HANDOFF = {"escalation": {"human_handoff_above": 0.4, "max_duration": "4s"}}
INCIDENTS = {"high_severity_incidents_increase": 0, "action": "immediate_rollback"}
HANDING_OFF = Behaviour(handoff=0.8, incident=0.0)
HELD = "escalation.human_handoff_above"
ADMIN, VIEWER = "casey", "vera"

SCENARIOS = [
    Scenario(
        "notified",
        900,
        HANDOFF,
        HANDING_OFF,
        {
            # Half of it is over only when a busy machine, too, has started the task that says so.
            "decision": {"tier_b_breach": "incident_commander_decision_within_3m"},
            "notify": [{"notifier": "http", "conn_id": "hook"}],
        },
    ),
    Scenario("held", 45, HANDOFF, HANDING_OFF),
    Scenario("promoted", 900, HANDOFF, HANDING_OFF),
    Scenario("muted", 900, HANDOFF, HANDING_OFF),
    Scenario(
        "exhausted",
        900,
        HANDOFF,
        HANDING_OFF,
        {
            "decision": {
                "tier_b_breach": {
                    "action": "incident_commander_decision",
                    "within": "10m",
                    "max_overrides": 1,
                }
            }
        },
    ),
    Scenario("paused", 900, HANDOFF),
    Scenario(
        "unproven",
        900,
        {"safety": INCIDENTS},
        further={"notify": [{"notifier": "http", "conn_id": "hook", "events": ["verification_failed"]}]},
        deadline="8s",
    ),
    Scenario(
        "sick", 900, {"safety": INCIDENTS, "latency": {"p95_above": 1.5, "max_duration": "10m", "tier": "c"}}
    ),
]


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with running_webhook() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def harness(
    tmp_path_factory: pytest.TempPathFactory, inbox: Inbox, airflow_url: str | None
) -> Iterator[Harness]:
    hook = f'{{"conn_type": "http", "host": "http://127.0.0.1:{inbox.port}"}}'
    harness = Harness(
        tmp_path_factory.mktemp("notified"),
        SCENARIOS,
        database_url=airflow_url,
        environment={"AIRFLOW_CONN_HOOK": hook},
        users={ADMIN: "admin", "robin": "op", VIEWER: "viewer"},
    )
    try:
        harness.start()
        yield harness
    finally:
        harness.stop()


def ask(harness: Harness, method: str, path: str, user: str | None, body: object = None) -> httpx.Response:
    headers = {} if user is None else {"Authorization": f"Bearer {harness.stack.api.token(user)}"}
    url = f"{harness.stack.url}/rollback-budget{path}"
    return httpx.request(method, url, json=body, headers=headers, timeout=30, trust_env=False)


def answer_again(harness: Harness, name: str, option: str, reason: str) -> None:
    """Answer a review that is asked a second time, once it is."""
    key = harness.key(name)

    def is_asked() -> bool:
        review = harness.stack.api.review(key.dag_id, key.run_id, "round_1.review")
        return harness.states(name)["round_1.review"] == "deferred" and not review["response_received"]

    wait_for(is_asked, "the review to be asked again", timeout_s=PATIENCE_S)
    assert harness.answer(name, option, reason).status_code == 200


def breaches(harness: Harness, name: str, count: int) -> list[Breach]:
    """Wait until the ledger has so many breaches, which are written beside what is decided."""

    def logged() -> list[Breach]:
        found = [one.breach for one in harness.ledger.breaches.of(harness.key(name))]
        return found if len(found) >= count else []

    return wait_for(logged, f"{count} breaches of {name}", timeout_s=PATIENCE_S)


def newest_looks(harness: Harness, name: str) -> list[LoggedLook]:
    return harness.ledger.looks.newest(harness.key(name))


def posted(inbox: Inbox, service: str) -> list[dict[str, Any]]:
    return [one for one in inbox.posted if one["service"] == service]


def hold(until: timedelta = timedelta(hours=1), **changes: Any) -> dict[str, Any]:
    end = (datetime.now(UTC) + until).isoformat()
    return {"budget": HELD, "until": end, "reason": "load test", **changes}


def test_a_suspension_over_http_keeps_a_bad_metric_from_breaching(harness: Harness) -> None:
    path = "/api/dags/rollout_held/suspensions"
    answer = ask(harness, "POST", path, ADMIN, hold())
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["by"], made["budget"], made["active"]) == (ADMIN, HELD, True)
    for name in harness.scenarios:
        harness.trigger(name)
    assert harness.end("held") == "success"
    assert harness.final("held") is FinalDecision.PROMOTED
    [logged] = wait_for(
        lambda: harness.ledger.evaluations.of(harness.key("held")), "the verdict", timeout_s=PATIENCE_S
    )
    [budget] = logged.evaluation.budgets
    assert logged.evaluation.verdict is VerdictKind.HEALTHY
    assert budget.suspended is not None
    assert (budget.suspended.by, budget.suspended_looks) == (ADMIN, budget.looks)
    assert [one.id for one in harness.ledger.suspensions.of(harness.key("held"))] == [made["id"]]


def test_no_route_is_open_and_only_editors_change_anything(harness: Harness) -> None:
    path = "/api/dags/rollout_held/suspensions"
    [made, *_] = ask(harness, "GET", f"{path}?every=true", ADMIN).json()
    requests = [("GET", path, None), ("POST", path, hold()), ("DELETE", f"{path}/{made['id']}", None)]
    for method, where, body in requests:
        assert ask(harness, method, where, None, body).status_code == 401
    for where in ("/docs", "/redoc", "/openapi.json", "/", "/api/dags"):
        assert ask(harness, "GET", where, None).status_code in (401, 404)
        assert ask(harness, "GET", where, ADMIN).status_code == 404
    assert [ask(harness, method, where, VIEWER, body).status_code for method, where, body in requests] == [
        200,
        403,
        403,
    ]
    assert len(harness.ledger.suspensions.ending_after()) == 1


def test_the_chart_in_the_review_is_shown_to_who_may_see_the_dag_and_to_no_other_user(
    harness: Harness,
) -> None:
    key = harness.key("notified")
    harness.reach("notified", "round_1.review", "deferred", "success")
    review = harness.stack.api.review(key.dag_id, key.run_id, "round_1.review")
    address = re.search(r"\((http[^)]*chart\.svg)\)", review["body"])
    assert address is not None
    path = address[1].removeprefix(f"{harness.stack.url}/rollback-budget")
    shown = ask(harness, "GET", path, VIEWER)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/svg+xml"), shown.text
    assert "human_handoff_above" in shown.text
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert ask(harness, "GET", path, None).status_code == 401
    assert ask(harness, "GET", path.replace("manual", "no"), VIEWER).status_code == 404


def test_what_cannot_be_suspended_is_refused_with_a_reason(harness: Harness) -> None:
    path = "/api/dags/rollout_notified/suspensions"
    for body in (hold(timedelta(hours=-1)), hold(reason=" "), hold(by="somebody else"), {"budget": HELD}):
        answer = ask(harness, "POST", path, ADMIN, body)
        assert answer.status_code in (400, 422), answer.text
    other = ask(harness, "GET", "/api/dags/rollout_held/suspensions?every=true", ADMIN).json()[0]
    assert ask(harness, "DELETE", f"{path}/{other['id']}", ADMIN).status_code == 404


def test_an_early_end_and_who_did_what_are_in_airflows_audit_log(harness: Harness) -> None:
    path = "/api/dags/rollout_held/suspensions"
    made = ask(harness, "POST", path, "robin", hold()).json()
    ended = ask(harness, "DELETE", f"{path}/{made['id']}?reason=over", ADMIN).json()
    assert (ended["active"], ended["ended_by"], ended["ended_reason"]) == (False, ADMIN, "over")
    logs = harness.stack.api.call("GET", "/eventLogs?dag_id=rollout_held&limit=1000")["event_logs"]
    said = {(log["event"], log["owner"]) for log in logs}
    assert {("rollback_budget_suspend", "robin"), ("rollback_budget_resume", ADMIN)} <= said


def test_the_commander_promotes_at_once_and_only_with_a_reason(harness: Harness) -> None:
    harness.reach("promoted", "round_1.review", "deferred")
    assert harness.answer("promoted", "Promote now", None).status_code == 200
    harness.wait_for_log("promoted", "round_1.review", "needs a reason of at least 5 letters")
    answer_again(harness, "promoted", "Promote now", "the classifier is wrong, I read the hand-offs")
    assert harness.end("promoted") == "success"
    final = harness.rollout("promoted").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.PROMOTED, ADMIN)
    assert harness.weights("promoted") == {RELEASE: 1.0}
    [decision] = harness.ledger.decisions.of(harness.key("promoted"))
    assert (decision.option, decision.by) == ("Promote now", ADMIN)
    assert harness.states("promoted")["rollback"] == "skipped"


def test_a_muted_budget_does_not_ask_again_before_the_time_that_the_commander_gave(
    harness: Harness,
) -> None:
    harness.reach("muted", "round_1.review", "deferred")
    until = (datetime.now(UTC) + timedelta(seconds=30)).replace(microsecond=0)
    said = {"until": until.isoformat(), "mute": True}
    assert harness.answer("muted", "Go on", "a replay of old traffic", **said).status_code == 200
    harness.reach("muted", "round_2.review", "deferred")
    key = harness.key("muted")
    first, second = breaches(harness, "muted", 2)
    assert first.breached_at < until < second.started_at
    [override] = harness.ledger.overrides.of(key)
    [mute] = harness.ledger.suspensions.of(key)
    assert (override.by, override.until) == (ADMIN, until)
    assert (mute.suspension.by, mute.suspension.budget, mute.suspension.until) == (ADMIN, HELD, until)
    asked = harness.stack.api.review(key.dag_id, key.run_id, "round_2.review")
    assert "a replay of old traffic" in asked["body"]
    assert harness.answer("muted", "Roll back now", None, round_=2).status_code == 200
    assert harness.end("muted") == "success"
    assert harness.final("muted") is FinalDecision.ROLLED_BACK
    assert [one.option for one in harness.ledger.decisions.of(key)] == ["Go on", "Roll back now"]


def test_after_the_last_override_a_further_breach_rolls_back_without_asking(harness: Harness) -> None:
    harness.reach("exhausted", "round_1.review", "deferred")
    assert harness.answer("exhausted", "Go on", "wait for the cache to warm up").status_code == 200
    assert harness.end("exhausted") == "success"
    states = harness.states("exhausted")
    assert (states["round_2.breached"], "round_2.review" in states) == ("success", False)
    final = harness.rollout("exhausted").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "the rule")
    assert harness.weights("exhausted") == {BASELINE: 1.0}
    assert len(harness.ledger.reviews.of(harness.key("exhausted"))) == 1


def test_a_budget_suspended_in_mid_watch_breaches_only_when_it_is_in_force_again(
    harness: Harness,
) -> None:
    harness.reach("paused", "round_1.watch", "deferred")
    path = "/api/dags/rollout_paused/suspensions"
    made = ask(harness, "POST", path, ADMIN, hold()).json()
    held = "a look under the suspension"
    wait_for(
        lambda: any(one.suspended for one in newest_looks(harness, "paused")), held, timeout_s=PATIENCE_S
    )
    worse_since = harness.worsen("paused", handoff=0.8)
    seen_bad = worse_since + timedelta(seconds=10)
    bad = "looks at what is bad"
    wait_for(
        lambda: all(one.time > seen_bad for one in newest_looks(harness, "paused")), bad, timeout_s=PATIENCE_S
    )
    assert all(one.suspended for one in newest_looks(harness, "paused"))
    assert harness.states("paused")["round_1.watch"] == "deferred"
    assert ask(harness, "DELETE", f"{path}/{made['id']}", "robin").status_code == 200
    resumed_at = datetime.now(UTC)
    harness.reach("paused", "round_1.review", "deferred")
    [breach] = breaches(harness, "paused", 1)
    assert breach.started_at > resumed_at - timedelta(seconds=10)
    [said] = harness.ledger.evaluations.of(harness.key("paused"))
    [budget] = said.evaluation.budgets
    assert budget.suspended_looks > 5
    assert harness.answer("paused", "Roll back now", None).status_code == 200
    assert harness.end("paused") == "success"


def test_a_rollback_that_is_not_proven_is_tried_again_and_then_the_on_call_engineer_is_paged_once(
    harness: Harness, inbox: Inbox
) -> None:
    harness.reach("unproven", "round_1.watch", "deferred")
    harness.break_control("unproven", "accept_only")
    harness.worsen("unproven", incident=0.5)
    assert harness.end("unproven") == "failed"
    wait_for(lambda: posted(inbox, "unproven"), "the page", timeout_s=PATIENCE_S)
    [page] = posted(inbox, "unproven")
    assert page["event"] == "verification_failed"
    assert "the rollback is NOT proven, the on-call engineer must look now" in page["text"]
    assert "accepted_not_effective" in page["sentence"]
    key = harness.key("unproven")
    task = harness.stack.api.call("GET", f"/dags/{key.dag_id}/dagRuns/{key.run_id}/taskInstances/rollback")
    assert (task["state"], task["try_number"]) == ("failed", 2)


def test_a_rollback_to_a_baseline_that_is_itself_unhealthy_says_so(harness: Harness) -> None:
    harness.reach("sick", "round_1.watch", "deferred")
    harness.worsen("sick", version=BASELINE, latency_s=6)
    harness.worsen("sick", incident=0.5)
    assert harness.end("sick") == "success"
    record = harness.ledger.rollbacks.of(harness.key("sick"))
    assert record is not None
    assert record.outcome is Outcome.EFFECTIVE
    assert "The baseline is itself unhealthy: p95 of model-v41 is " in record.detail


def test_every_subscriber_is_notified_once_of_every_step_to_the_rollback(
    harness: Harness, inbox: Inbox
) -> None:
    wanted = {"breach", "review_opened", "deadline_near", "decided", "rolled_back"}
    assert harness.end("notified") == "success"
    assert sorted(one["event"] for one in posted(inbox, "notified")) == sorted(wanted)
    verdict_after = {one["event"]: one for one in posted(inbox, "notified")}
    assert "the deadline decided: Roll back now" in verdict_after["decided"]["sentence"]
    assert "No answer by" in verdict_after["review_opened"]["sentence"]
    assert "/dags/rollout_notified/runs/" in verdict_after["rolled_back"]["link"]
    key = harness.key("notified")
    [review] = harness.ledger.reviews.of(key)
    assert review.round == 1
    assert {one.error for one in harness.ledger.notifications.of(key)} == {None}
