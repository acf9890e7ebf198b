"""A rollback leaves although no task can start: the scheduler, and with it every worker, is dead.

The three ways to a rollback, each on a rollout of its own: a tier A breach, the commander's answer, silence.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.waiting import wait_for
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.targets.apply import Outcome
from tests.stack.airflow_harness import BASELINE, COMMANDER, PATIENCE_S, Harness, Scenario

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

INCIDENTS = {"high_severity_incidents_increase": 0, "action": "immediate_rollback"}
HANDOFF = {"human_handoff_above": 0.4, "max_duration": "2s", "method": "threshold"}
WITHIN = {"decision": {"tier_b_breach": "incident_commander_decision_within_3m"}}
SCENARIOS = [
    Scenario("breached", 900, {"safety": INCIDENTS}),
    Scenario("answered", 900, {"escalation": HANDOFF}),
    Scenario("silent", 900, {"escalation": HANDOFF}, further=WITHIN),
]
ROLLED_BACK = {BASELINE: 1.0}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, airflow_url: str | None) -> Iterator[Harness]:
    """All three rollouts wait: one for its breach, two for an answer; then the scheduler is killed."""
    harness = Harness(tmp_path_factory.mktemp("without_tasks"), SCENARIOS, database_url=airflow_url)
    try:
        harness.start()
        for scenario in SCENARIOS:
            harness.trigger(scenario.name)
        for scenario in SCENARIOS:
            harness.reach(scenario.name, "round_1.watch", "deferred")
        harness.worsen("answered", handoff=0.9)
        harness.worsen("silent", handoff=0.9)
        for name in ("answered", "silent"):
            harness.reach(name, "round_1.review", "deferred")
            harness.wait_for_log(name, "round_1.review", "starting")
        harness.stack.kill("scheduler")
        yield harness
    finally:
        harness.stop()


def wait_until_rolled_back(harness: Harness, name: str) -> None:
    wait_for(lambda: harness.weights(name) == ROLLED_BACK, f"the rollback of {name}", timeout_s=PATIENCE_S)
    states = harness.states(name)
    assert states["rollback"] is None, "no task has run for it"


def test_a_breach_is_rolled_back_without_a_scheduler(harness: Harness) -> None:
    harness.worsen("breached", incident=0.5)
    wait_until_rolled_back(harness, "breached")
    final = harness.rollout("breached").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "the rule")


def test_the_commanders_answer_is_followed_without_a_scheduler(harness: Harness) -> None:
    assert harness.answer("answered", "Roll back now", "no more of this").status_code == 200
    wait_until_rolled_back(harness, "answered")
    final = harness.rollout("answered").final
    assert final is not None
    assert (final.by.lower(), final.reason) == (COMMANDER, "no more of this")


def test_silence_is_followed_without_a_scheduler(harness: Harness) -> None:
    wait_until_rolled_back(harness, "silent")
    final = harness.rollout("silent").final
    assert final is not None
    assert final.by == "the deadline"


def test_with_a_scheduler_again_each_is_verified_and_recorded_once(harness: Harness) -> None:
    harness.stack.start("scheduler")
    for scenario in SCENARIOS:
        name = scenario.name
        assert harness.end(name) == "success"
        record = harness.ledger.rollbacks.of(harness.key(name))
        assert record is not None
        assert record.outcome is Outcome.EFFECTIVE
        keys = [change["idempotency_key"] for change in harness.changes(name)]
        assert keys.count(f"{harness.key(name)}/rollback") == 1
        assert harness.states(name)["promote"] == "skipped"
        assert len(harness.ledger.decisions.of(harness.key(name))) == (name != "breached")
