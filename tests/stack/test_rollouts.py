"""Rollouts on a real Airflow with all its components, tried in the ways that nights go wrong.

One Airflow for all of them; the runs overlap, and every test waits for what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from demo.traffic import Behaviour
from demo.waiting import wait_for
from rollback_budget.engine.evaluation import Breach, VerdictKind
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.targets.apply import Outcome
from tests.stack.airflow_harness import BASELINE, PATIENCE_S, RELEASE, Harness, Scenario

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

INCIDENTS = {"high_severity_incidents_increase": 0, "action": "immediate_rollback"}
HANDOFF = {"human_handoff_above": 0.4, "max_duration": "4s"}
BOTH = {"safety": INCIDENTS, "escalation": HANDOFF}
HANDING_OFF = Behaviour(handoff=0.8, incident=0.0)


def ramp(name: str, *shares: float, hold: str = "12s") -> dict[str, Any]:
    """A target that gives the release these shares one after another, and then half of the traffic."""
    stages = [{"traffic": share, "hold": hold} for share in shares]
    return {"conn_id": f"router_{name}", "deadline": "30s", "request_timeout": "2s", "stages": stages}


SCENARIOS = [
    Scenario("go_on", 75, {"escalation": HANDOFF}, HANDING_OFF),
    Scenario(
        "silence",
        120,
        {"escalation": HANDOFF},
        HANDING_OFF,
        {"decision": {"tier_b_breach": "incident_commander_decision_within_5s"}},
    ),
    Scenario("guarded", 300, BOTH, HANDING_OFF),
    Scenario("not_served", 900, {"safety": INCIDENTS}, deadline="8s"),
    Scenario("superseded", 900, {"safety": INCIDENTS}),
    Scenario("outage", 900, {"safety": INCIDENTS}),
    Scenario(
        "blind",
        900,
        {"safety": INCIDENTS},
        further={
            "watch": {"poll": "1s", "step": "1s", "settle": "2s", "blind_after": "8s", "on_blind": "rollback"}
        },
    ),
    Scenario("killed", 900, {"safety": INCIDENTS}),
    Scenario("no_ledger", 300, {"safety": INCIDENTS}),
    Scenario("no_source", 300, {"safety": INCIDENTS}),
    Scenario("team", 25, BOTH),
    Scenario("staged", 75, {"safety": INCIDENTS}, further={"target": ramp("staged", 0.1, 0.2)}),
    Scenario("queued", 15, {"safety": INCIDENTS}, further={"service": "staged", "concurrent": "queue"}),
    Scenario("refused", 15, {"safety": INCIDENTS}, further={"service": "staged"}),
    Scenario("held", 300, {"escalation": HANDOFF}, HANDING_OFF, {"target": ramp("held", 0.4, hold="25s")}),
]
STARTED_LATER = {"no_source", "no_ledger", "team", "killed", "staged", "queued", "refused"}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, airflow_url: str | None) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("harness"), SCENARIOS, database_url=airflow_url)
    try:
        harness.start()
        for scenario in SCENARIOS:
            if scenario.name not in STARTED_LATER:
                harness.trigger(scenario.name)
        yield harness
    finally:
        harness.stop()


def only_breach(harness: Harness, name: str) -> Breach:
    [logged] = harness.ledger.breaches.of(harness.key(name))
    return logged.breach


def test_every_dag_loads_and_a_broken_budget_breaks_only_its_own_visibly(harness: Harness) -> None:
    assert harness.stack.api.import_errors() == []
    broken = harness.stack.api.call("GET", "/dags/rollout_broken/details")
    assert "broken-budget" in {tag["name"] for tag in broken["tags"]}
    assert "broken.yaml:3:" in broken["doc_md"]
    run = harness.stack.api.trigger("rollout_broken")
    assert harness.stack.wait_for_run("rollout_broken", run) == "failed"


def test_only_the_commander_may_answer_and_going_on_needs_a_reason(harness: Harness) -> None:
    harness.reach("go_on", "round_1.review", "deferred")
    dag_id, run = harness.key("go_on").dag_id, harness.key("go_on").run_id
    asked = harness.stack.api.review(dag_id, run, "round_1.review")
    assert "human" in asked["body"]
    assert "No answer by" in asked["body"]
    assert [user["id"] for user in asked["assigned_users"]] == ["casey"]
    assert harness.answer("go_on", "Go on", "I would like to", user="robin").status_code == 403
    assert harness.answer("go_on", "Go on", None).status_code == 200

    def asked_again() -> bool:
        review = harness.stack.api.review(dag_id, run, "round_1.review")
        waits = harness.states("go_on")["round_1.review"] == "deferred"
        return waits and not review["response_received"]

    wait_for(asked_again, "the review to be asked again", timeout_s=PATIENCE_S)
    harness.worsen("go_on", handoff=0.05)
    harness.edit_budget("go_on", window="10h")
    assert harness.answer("go_on", "Go on", "a known spike, it is over").status_code == 200


def test_a_tier_a_breach_during_a_review_rolls_back_without_waiting(harness: Harness) -> None:
    harness.reach("guarded", "round_1.guard", "deferred")
    harness.worsen("guarded", incident=0.5)
    harness.reach("guarded", "rollback", "success")
    assert harness.weights("guarded") == {BASELINE: 1.0}


def test_an_overtaken_review_is_closed_and_says_why(harness: Harness) -> None:
    harness.reach("guarded", "round_1.review", "success")
    late = harness.answer("guarded", "Go on", "I have not seen the incident")
    assert late.status_code == 409
    key = harness.key("guarded")
    closed = harness.stack.api.review(key.dag_id, key.run_id, "round_1.review")
    assert (closed["chosen_options"], closed["responded_by_user"]) == (["Roll back now"], None)
    assert "high_severity_incident" in closed["params_input"]["reason"]
    assert harness.end("guarded") == "success"
    assert harness.final("guarded") is FinalDecision.ROLLED_BACK
    assert harness.states("guarded")["round_2.watch"] == "skipped"
    assert harness.weights("guarded") == {BASELINE: 1.0}
    [decision] = harness.ledger.decisions.of(key)
    assert (decision.by, decision.timed_out) == ("the rule", False)
    assert (decision.reason or "").startswith("closed without an answer: safety")
    budgets = {logged.breach.budget for logged in harness.ledger.breaches.of(key)}
    assert budgets == {"escalation.human_handoff_above", "safety.high_severity_incidents_increase"}


def test_the_share_is_never_raised_while_the_commander_thinks(harness: Harness) -> None:
    harness.reach("held", "round_1.review", "deferred")
    harness.wait_for_log("held", "stages", "the release gets no more traffic now: ")
    assert harness.weights("held") == {RELEASE: 0.4, BASELINE: 0.6}
    assert harness.answer("held", "Roll back now", "not with more traffic").status_code == 200
    assert harness.end("held") == "success"
    assert harness.weights("held") == {BASELINE: 1.0}
    assert [stage.share for stage in harness.ledger.stages.of(harness.key("held"))] == [0.4]


def test_a_second_rollout_of_a_service_is_refused_or_waits_for_the_first(harness: Harness) -> None:
    harness.trigger("staged")
    harness.reach("staged", "round_1.watch", "deferred")
    harness.trigger("refused")
    harness.trigger("queued")
    assert harness.end("refused") == "failed"
    assert harness.changes("refused") == []
    harness.wait_for_log("refused", "preflight", "another rollout of staged is under way")
    harness.wait_for_log("queued", "preflight", "queued behind another rollout of staged")
    assert harness.end("staged") == "success"
    first = harness.rollout("staged").final
    assert first is not None
    assert first.decision is FinalDecision.PROMOTED
    assert harness.end("queued") == "success"
    assert harness.final("queued") is FinalDecision.PROMOTED
    assert harness.rollout("queued").opened_at > first.at


def test_a_release_gets_its_traffic_by_stages_each_once(harness: Harness) -> None:
    assert harness.end("staged") == "success"
    shares = [change["weights"][RELEASE] for change in harness.changes("staged")]
    assert shares == [0.1, 0.2, 0.5, 1.0]
    stages = harness.ledger.stages.of(harness.key("staged"))
    assert [stage.share for stage in stages] == [0.1, 0.2, 0.5]
    assert min(after.at - before.at for before, after in pairwise(stages)) >= timedelta(seconds=12)


def test_silence_rolls_back_and_the_deadline_is_its_author(harness: Harness) -> None:
    assert harness.end("silence") == "success"
    final = harness.rollout("silence").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "the deadline")
    assert harness.weights("silence") == {BASELINE: 1.0}


def test_a_cleared_rolled_back_run_is_neither_shipped_nor_promoted(harness: Harness) -> None:
    before = harness.changes("silence")
    key = harness.key("silence")
    body = {"dry_run": False, "dag_run_id": key.run_id, "only_failed": False, "reset_dag_runs": True}
    harness.stack.api.call("POST", f"/dags/{key.dag_id}/clearTaskInstances", body)
    harness.reach("silence", "promote", "skipped")
    harness.end("silence")
    assert harness.changes("silence") == before
    assert harness.final("silence") is FinalDecision.ROLLED_BACK
    assert harness.weights("silence") == {BASELINE: 1.0}


def test_a_control_plane_that_accepts_but_does_not_serve_fails_the_run_loudly(harness: Harness) -> None:
    harness.reach("not_served", "ship", "success")
    harness.break_control("not_served", "accept_only")
    harness.worsen("not_served", incident=0.5)
    assert harness.end("not_served") == "failed"
    record = harness.ledger.rollbacks.of(harness.key("not_served"))
    assert record is not None
    assert record.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert record.verified_at is None
    assert only_breach(harness, "not_served").budget == "safety.high_severity_incidents_increase"


def test_the_newer_traffic_of_another_user_is_not_overwritten(harness: Harness) -> None:
    harness.reach("superseded", "round_1.watch", "deferred")
    harness.set_weights("superseded", {BASELINE: 0.9, RELEASE: 0.1})
    harness.worsen("superseded", incident=0.9)
    assert harness.end("superseded") == "failed"
    record = harness.ledger.rollbacks.of(harness.key("superseded"))
    assert record is not None
    assert record.outcome is Outcome.SUPERSEDED
    assert harness.weights("superseded") == {BASELINE: 0.9, RELEASE: 0.1}


def test_a_breach_during_an_outage_of_the_metrics_is_found_when_they_are_back(harness: Harness) -> None:
    harness.reach("outage", "round_1.watch", "deferred")
    harness.take_metrics("outage")
    harness.worsen("outage", incident=0.5)
    harness.wait_for_log("outage", "round_1.watch", "looks are unknown")
    assert harness.states("outage")["round_1.watch"] == "deferred"
    harness.give_metrics("outage")
    assert harness.end("outage") == "success"
    assert harness.final("outage") is FinalDecision.ROLLED_BACK


def test_a_blind_watch_obeys_its_rule_and_a_rollback_without_metrics_is_loud(
    harness: Harness,
) -> None:
    harness.reach("blind", "round_1.watch", "deferred", "success")
    harness.take_metrics("blind")
    assert harness.end("blind") == "failed"
    assert harness.final("blind") is FinalDecision.ROLLED_BACK
    assert harness.weights("blind") == {BASELINE: 1.0}
    record = harness.ledger.rollbacks.of(harness.key("blind"))
    assert record is not None
    assert "cannot be known" in record.data_plane
    [said] = harness.ledger.evaluations.of(harness.key("blind"))
    assert said.evaluation.verdict is VerdictKind.BLIND
    assert harness.ledger.breaches.of(harness.key("blind")) == []


def test_a_watch_survives_its_triggerer_and_the_scheduler(harness: Harness) -> None:
    harness.trigger("killed")
    harness.reach("killed", "round_1.watch", "deferred")
    harness.stack.kill("triggerer")
    harness.stack.restart("scheduler")
    worse_since = harness.worsen("killed", incident=0.5)
    harness.stack.start("triggerer")
    assert harness.end("killed") == "success"
    assert harness.final("killed") is FinalDecision.ROLLED_BACK
    # Found at its true time, although no watch was running then.
    assert only_breach(harness, "killed").breached_at - worse_since < timedelta(seconds=5)


def test_after_go_on_the_rest_of_the_window_is_watched_and_then_promoted(harness: Harness) -> None:
    assert harness.end("go_on") == "success"
    assert harness.final("go_on") is FinalDecision.PROMOTED
    assert harness.weights("go_on") == {RELEASE: 1.0}
    # Every look of both watches, and of the guard between them, is there to draw.
    times = [look.time for look in harness.ledger.looks.of(harness.key("go_on"))]
    assert len(times) == len(set(times)) > 30
    survey = harness.stack.api.xcom(*astuple(harness.key("go_on")), "preflight", "survey")
    assert [(line["budget"], line["baseline"]["known"] > 0) for line in survey["budgets"]] == [
        ("escalation.human_handoff_above", True)
    ]
    harness.wait_for_log("go_on", "round_1.watch", " left | escalation.human_handoff_above ")
    harness.wait_for_log("go_on", "round_2.decide", "was edited during this rollout")
    [override] = harness.ledger.overrides.of(harness.key("go_on"))
    assert (override.by, override.reason) == ("casey", "a known spike, it is over")


def test_without_metrics_nothing_is_shipped(harness: Harness) -> None:
    harness.take_metrics("no_source")
    harness.trigger("no_source")
    assert harness.end("no_source") == "failed"
    assert harness.changes("no_source") == []


def test_a_teams_own_deploy_tasks_are_wrapped_and_verified(harness: Harness) -> None:
    harness.worsen("team", incident=0.5)
    run = harness.stack.api.trigger("team_deploy")
    assert harness.stack.wait_for_run("team_deploy", run) == "success"
    states = harness.stack.api.task_states("team_deploy", run)
    assert (states["undo.put_back"], states["rollback_budget.rollback"]) == ("success", "success")
    # The team's tasks know why, and on whose word.
    said = harness.stack.api.xcom("team_deploy", run, "undo.announce")
    assert "the rule: safety: " in said
    assert states["done"] == "skipped"
    assert harness.weights("team") == {BASELINE: 1.0}


def test_the_sensor_says_the_same_in_every_mode(harness: Harness) -> None:
    harness.set_weights("team", {BASELINE: 0.5, RELEASE: 0.5})
    run = harness.stack.api.trigger("just_a_sensor")
    assert harness.stack.wait_for_run("just_a_sensor", run) == "success"
    verdicts = [
        harness.stack.api.xcom("just_a_sensor", run, mode) for mode in ("poke", "reschedule", "defer")
    ]
    assert [verdict["verdict"] for verdict in verdicts] == ["breach"] * 3
    assert len({verdict["breaches"][0]["breached_at"] for verdict in verdicts}) == 1


def test_a_rollback_does_not_wait_for_the_ledger_and_nothing_is_lost(harness: Harness) -> None:
    """The last one: it takes the ledger from all processes."""
    harness.trigger("no_ledger")
    harness.reach("no_ledger", "round_1.watch", "deferred")
    harness.take_ledger()
    harness.worsen("no_ledger", incident=0.5)
    harness.reach("no_ledger", "rollback", "success")
    assert harness.weights("no_ledger") == {BASELINE: 1.0}
    harness.reach("no_ledger", "round_1.log_breach", "up_for_retry", "queued", "running")
    harness.give_ledger()
    assert harness.end("no_ledger") == "success"
    assert only_breach(harness, "no_ledger").budget == "safety.high_severity_incidents_increase"
    assert harness.final("no_ledger") is FinalDecision.ROLLED_BACK
    breached_at = only_breach(harness, "no_ledger").breached_at
    wait_for(
        lambda: breached_at in [look.time for look in harness.ledger.looks.of(harness.key("no_ledger"))],
        "the looks that waited for the ledger",
        timeout_s=PATIENCE_S,
    )


def test_every_breach_of_all_these_nights_is_a_debt_with_a_file(harness: Harness) -> None:
    names = [name for name in harness.runs if name not in ("no_source", "refused")]
    owed = {
        logged.debt_fingerprint for name in names for logged in harness.ledger.breaches.of(harness.key(name))
    }
    assert len(owed) >= 7
    harness.wait_for_debts(len(owed))
