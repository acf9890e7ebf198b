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
from tests.stack.airflow_harness import BASELINE, RELEASE, Harness, Scenario

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

INCIDENTS = {"high_severity_incidents_increase": 0, "action": "immediate_rollback"}
HANDOFF = {"human_handoff_delta_pct": 100, "max_duration": "4s"}
BOTH = {"safety": INCIDENTS, "escalation": HANDOFF}
HANDING_OFF = Behaviour(handoff=0.8, incident=0.0)


def ramp(name: str, *shares: float, hold: str = "12s") -> dict[str, Any]:
    """A target that gives the release these shares one after another, and then half of the traffic."""
    stages = [{"traffic": share, "hold": hold} for share in shares]
    return {"conn_id": f"router_{name}", "deadline": "8s", "request_timeout": "2s", "stages": stages}


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
    Scenario("not_served", 900, {"safety": INCIDENTS}),
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
def field(tmp_path_factory: pytest.TempPathFactory, airflow_url: str | None) -> Iterator[Harness]:
    field = Harness(tmp_path_factory.mktemp("field"), SCENARIOS, database_url=airflow_url)
    try:
        field.start()
        for scenario in SCENARIOS:
            if scenario.name not in STARTED_LATER:
                field.trigger(scenario.name)
        yield field
    finally:
        field.stop()


def only_breach(field: Harness, name: str) -> Breach:
    [logged] = field.ledger.breaches.of(field.key(name))
    return logged.breach


def test_every_dag_loads_and_a_broken_budget_breaks_only_its_own_visibly(field: Harness) -> None:
    assert field.stack.api.import_errors() == []
    broken = field.stack.api.call("GET", "/dags/rollout_broken/details")
    assert "broken-budget" in {tag["name"] for tag in broken["tags"]}
    assert "broken.yaml:3:" in broken["doc_md"]
    run = field.stack.api.trigger("rollout_broken")
    assert field.stack.wait_for_run("rollout_broken", run) == "failed"


def test_only_the_commander_may_answer_and_going_on_needs_a_reason(field: Harness) -> None:
    field.reach("go_on", "round_1.review", "deferred")
    dag_id, run = field.key("go_on").dag_id, field.key("go_on").run_id
    asked = field.stack.api.review(dag_id, run, "round_1.review")
    assert "human" in asked["body"]
    assert "No answer by" in asked["body"]
    assert [user["id"] for user in asked["assigned_users"]] == ["casey"]
    assert field.answer("go_on", "Go on", "I would like to", user="robin").status_code == 403
    assert field.answer("go_on", "Go on", None).status_code == 200

    def asked_again() -> bool:
        review = field.stack.api.review(dag_id, run, "round_1.review")
        waits = field.states("go_on")["round_1.review"] == "deferred"
        return waits and not review["response_received"]

    wait_for(asked_again, "the review to be asked again", timeout_s=60)
    field.worsen("go_on", handoff=0.05)
    field.edit_budget("go_on", window="10h")
    assert field.answer("go_on", "Go on", "a known spike, it is over").status_code == 200


def test_a_tier_a_breach_during_a_review_rolls_back_without_waiting(field: Harness) -> None:
    field.reach("guarded", "round_1.guard", "deferred")
    field.worsen("guarded", incident=0.5)
    field.reach("guarded", "rollback", "success")
    assert field.weights("guarded") == {BASELINE: 1.0}


def test_an_overtaken_review_is_closed_and_says_why(field: Harness) -> None:
    field.reach("guarded", "round_1.review", "success")
    late = field.answer("guarded", "Go on", "I have not seen the incident")
    assert late.status_code == 409
    key = field.key("guarded")
    closed = field.stack.api.review(key.dag_id, key.run_id, "round_1.review")
    assert (closed["chosen_options"], closed["responded_by_user"]) == (["Roll back now"], None)
    assert "high_severity_incidents" in closed["params_input"]["reason"]
    assert field.end("guarded") == "success"
    assert field.final("guarded") is FinalDecision.ROLLED_BACK
    assert field.states("guarded")["round_2.watch"] == "skipped"
    assert field.weights("guarded") == {BASELINE: 1.0}
    [decision] = field.ledger.decisions.of(key)
    assert (decision.by, decision.timed_out) == ("the rule", False)
    assert (decision.reason or "").startswith("closed without an answer: safety")
    budgets = {logged.breach.budget for logged in field.ledger.breaches.of(key)}
    assert budgets == {"escalation.human_handoff_delta_pct", "safety.high_severity_incidents_increase"}


def test_the_share_is_never_raised_while_the_commander_thinks(field: Harness) -> None:
    field.reach("held", "round_1.review", "deferred")
    field.wait_for_log("held", "stages", "the release gets no more traffic now: ")
    assert field.weights("held") == {RELEASE: 0.4, BASELINE: 0.6}
    assert field.answer("held", "Roll back now", "not with more traffic").status_code == 200
    assert field.end("held") == "success"
    assert field.weights("held") == {BASELINE: 1.0}
    assert [stage.share for stage in field.ledger.stages.of(field.key("held"))] == [0.4]


def test_a_second_rollout_of_a_service_is_refused_or_waits_for_the_first(field: Harness) -> None:
    field.trigger("staged")
    field.reach("staged", "round_1.watch", "deferred")
    field.trigger("refused")
    field.trigger("queued")
    assert field.end("refused") == "failed"
    assert field.changes("refused") == []
    field.wait_for_log("refused", "preflight", "another rollout of staged is under way")
    field.wait_for_log("queued", "preflight", "queued behind another rollout of staged")
    assert field.end("staged") == "success"
    first = field.rollout("staged").final
    assert first is not None
    assert first.decision is FinalDecision.PROMOTED
    assert field.end("queued") == "success"
    assert field.final("queued") is FinalDecision.PROMOTED
    assert field.rollout("queued").opened_at > first.at


def test_a_release_gets_its_traffic_by_stages_each_once(field: Harness) -> None:
    assert field.end("staged") == "success"
    shares = [change["weights"][RELEASE] for change in field.changes("staged")]
    assert shares == [0.1, 0.2, 0.5, 1.0]
    stages = field.ledger.stages.of(field.key("staged"))
    assert [stage.share for stage in stages] == [0.1, 0.2, 0.5]
    assert min(after.at - before.at for before, after in pairwise(stages)) >= timedelta(seconds=12)


def test_silence_rolls_back_and_the_deadline_is_its_author(field: Harness) -> None:
    assert field.end("silence") == "success"
    final = field.rollout("silence").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "the deadline")
    assert field.weights("silence") == {BASELINE: 1.0}


def test_a_cleared_rolled_back_run_is_neither_shipped_nor_promoted(field: Harness) -> None:
    before = field.changes("silence")
    key = field.key("silence")
    body = {"dry_run": False, "dag_run_id": key.run_id, "only_failed": False, "reset_dag_runs": True}
    field.stack.api.call("POST", f"/dags/{key.dag_id}/clearTaskInstances", body)
    field.reach("silence", "promote", "skipped")
    field.end("silence")
    assert field.changes("silence") == before
    assert field.final("silence") is FinalDecision.ROLLED_BACK
    assert field.weights("silence") == {BASELINE: 1.0}


def test_a_control_plane_that_accepts_but_does_not_serve_fails_the_run_loudly(field: Harness) -> None:
    field.reach("not_served", "ship", "success")
    field.break_control("not_served", "accept_only")
    field.worsen("not_served", incident=0.5)
    assert field.end("not_served") == "failed"
    record = field.ledger.rollbacks.of(field.key("not_served"))
    assert record is not None
    assert record.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert record.verified_at is None
    assert only_breach(field, "not_served").budget == "safety.high_severity_incidents_increase"


def test_somebody_elses_newer_traffic_is_not_overwritten(field: Harness) -> None:
    field.reach("superseded", "round_1.watch", "deferred")
    field.set_weights("superseded", {BASELINE: 0.9, RELEASE: 0.1})
    field.worsen("superseded", incident=0.9)
    assert field.end("superseded") == "failed"
    record = field.ledger.rollbacks.of(field.key("superseded"))
    assert record is not None
    assert record.outcome is Outcome.SUPERSEDED
    assert field.weights("superseded") == {BASELINE: 0.9, RELEASE: 0.1}


def test_a_breach_during_an_outage_of_the_metrics_is_found_when_they_are_back(field: Harness) -> None:
    field.reach("outage", "round_1.watch", "deferred")
    field.take_metrics("outage")
    field.worsen("outage", incident=0.5)
    field.wait_for_log("outage", "round_1.watch", "looks are unknown")
    assert field.states("outage")["round_1.watch"] == "deferred"
    field.give_metrics("outage")
    assert field.end("outage") == "success"
    assert field.final("outage") is FinalDecision.ROLLED_BACK


def test_a_blind_watch_obeys_its_rule_and_a_rollback_that_nobody_can_see_is_loud(
    field: Harness,
) -> None:
    field.reach("blind", "round_1.watch", "deferred", "success")
    field.take_metrics("blind")
    assert field.end("blind") == "failed"
    assert field.final("blind") is FinalDecision.ROLLED_BACK
    assert field.weights("blind") == {BASELINE: 1.0}
    record = field.ledger.rollbacks.of(field.key("blind"))
    assert record is not None
    assert "cannot be known" in record.data_plane
    [said] = field.ledger.evaluations.of(field.key("blind"))
    assert said.evaluation.verdict is VerdictKind.BLIND
    assert field.ledger.breaches.of(field.key("blind")) == []


def test_a_watch_survives_its_triggerer_and_the_scheduler(field: Harness) -> None:
    field.trigger("killed")
    field.reach("killed", "round_1.watch", "deferred")
    field.stack.kill("triggerer")
    field.stack.restart("scheduler")
    worse_since = field.worsen("killed", incident=0.5)
    field.stack.start("triggerer")
    assert field.end("killed", timeout_s=240) == "success"
    assert field.final("killed") is FinalDecision.ROLLED_BACK
    # Found at its true time, although nobody was watching then.
    assert only_breach(field, "killed").breached_at - worse_since < timedelta(seconds=5)


def test_after_go_on_the_rest_of_the_window_is_watched_and_then_promoted(field: Harness) -> None:
    assert field.end("go_on") == "success"
    assert field.final("go_on") is FinalDecision.PROMOTED
    assert field.weights("go_on") == {RELEASE: 1.0}
    # Every look of both watches, and of the guard between them, is there to draw.
    times = [look.time for look in field.ledger.looks.of(field.key("go_on"))]
    assert len(times) == len(set(times)) > 30
    survey = field.stack.api.xcom(*astuple(field.key("go_on")), "preflight", "survey")
    assert [(line["budget"], line["baseline"]["known"] > 0) for line in survey["budgets"]] == [
        ("escalation.human_handoff_delta_pct", True)
    ]
    field.wait_for_log("go_on", "round_1.watch", " left | escalation.human_handoff_delta_pct ")
    field.wait_for_log("go_on", "round_2.decide", "was edited during this rollout")
    [override] = field.ledger.overrides.of(field.key("go_on"))
    assert (override.by, override.reason) == ("casey", "a known spike, it is over")


def test_without_metrics_nothing_is_shipped(field: Harness) -> None:
    field.take_metrics("no_source")
    field.trigger("no_source")
    assert field.end("no_source") == "failed"
    assert field.changes("no_source") == []


def test_a_teams_own_deploy_tasks_are_wrapped_and_verified(field: Harness) -> None:
    field.worsen("team", incident=0.5)
    run = field.stack.api.trigger("team_deploy")
    assert field.stack.wait_for_run("team_deploy", run) == "success"
    states = field.stack.api.task_states("team_deploy", run)
    assert (states["undo.put_back"], states["rollback_budget.rollback"]) == ("success", "success")
    # The team's tasks know why, and on whose word.
    said = field.stack.api.xcom("team_deploy", run, "undo.announce")
    assert "the rule: safety: " in said
    assert states["done"] == "skipped"
    assert field.weights("team") == {BASELINE: 1.0}


def test_the_sensor_says_the_same_in_every_mode(field: Harness) -> None:
    field.set_weights("team", {BASELINE: 0.5, RELEASE: 0.5})
    run = field.stack.api.trigger("just_a_sensor")
    assert field.stack.wait_for_run("just_a_sensor", run) == "success"
    verdicts = [field.stack.api.xcom("just_a_sensor", run, mode) for mode in ("poke", "reschedule", "defer")]
    assert [verdict["verdict"] for verdict in verdicts] == ["breach"] * 3
    assert len({verdict["breaches"][0]["breached_at"] for verdict in verdicts}) == 1


def test_a_rollback_does_not_wait_for_the_ledger_and_nothing_is_lost(field: Harness) -> None:
    """The last one: it takes the ledger away from everybody."""
    field.trigger("no_ledger")
    field.reach("no_ledger", "round_1.watch", "deferred")
    field.take_ledger()
    field.worsen("no_ledger", incident=0.5)
    field.reach("no_ledger", "rollback", "success")
    assert field.weights("no_ledger") == {BASELINE: 1.0}
    field.reach("no_ledger", "round_1.log_breach", "up_for_retry", "queued", "running")
    field.give_ledger()
    assert field.end("no_ledger") == "success"
    assert only_breach(field, "no_ledger").budget == "safety.high_severity_incidents_increase"
    assert field.final("no_ledger") is FinalDecision.ROLLED_BACK
    breached_at = only_breach(field, "no_ledger").breached_at
    wait_for(
        lambda: breached_at in [look.time for look in field.ledger.looks.of(field.key("no_ledger"))],
        "the looks that waited for the ledger",
        timeout_s=60,
    )


def test_every_breach_of_all_these_nights_is_a_debt_with_a_file(field: Harness) -> None:
    names = [name for name in field.runs if name not in ("no_source", "refused")]
    owed = {logged.debt_fingerprint for name in names for logged in field.ledger.breaches.of(field.key(name))}
    assert len(owed) >= 7
    field.wait_for_debts(len(owed))
