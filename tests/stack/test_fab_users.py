"""Several users on the FAB auth manager, which knows them by their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from demo.traffic import Behaviour
from rollback_budget.ledger.views import FinalDecision
from tests.stack.airflow_harness import BASELINE, Harness, Scenario
from tests.support.counterparts import installed

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

ADMIN, COMMANDER, OTHER = "ada", "casey", "robin"
#: Roles of FAB; the numbers of the users follow this order.
USERS = {ADMIN: "Admin", COMMANDER: "Op", OTHER: "Op"}
NUMBERS = {name: str(number) for number, name in enumerate(USERS, start=1)}
HANDOFF = {"escalation": {"human_handoff_above": 0.4, "max_duration": "4s"}}
HANDING_OFF = Behaviour(handoff=0.8, incident=0.0)
SCENARIOS = [
    Scenario(
        "numbered",
        900,
        HANDOFF,
        HANDING_OFF,
        {"incident_commander": {"id": NUMBERS[COMMANDER], "name": COMMANDER}},
    ),
    Scenario("named", 900, HANDOFF, HANDING_OFF, {"incident_commander": {"id": COMMANDER, "name": "Casey"}}),
]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(
        tmp_path_factory.mktemp("fab"),
        SCENARIOS,
        environment={
            "AIRFLOW__CORE__AUTH_MANAGER": (
                "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
            )
        },
        users=USERS,
        programs=installed("fab") / "venv" / "bin",
    )
    try:
        create_users(harness)
        harness.start()
        yield harness
    finally:
        harness.stop()


def create_users(harness: Harness) -> None:
    stack = harness.stack
    stack.home.mkdir()
    stack.run("airflow", "db", "migrate")
    for name, role in USERS.items():
        about = ["--firstname", name, "--lastname", "Test", "--email", f"{name}@example.com", "--role", role]
        stack.run(
            "airflow", "users", "create", "--username", name, "--password", stack.passwords[name], *about
        )


def test_users_are_listed_by_the_numbers_that_a_budget_names(harness: Harness) -> None:
    said = harness.stack.run("airflow", "users", "list", "--output", "json")
    listed = json.loads(said[said.index("[{") :])
    assert {user["username"]: str(user["id"]) for user in listed} == NUMBERS


def test_only_the_commander_may_answer_and_who_tried_is_recorded(harness: Harness) -> None:
    harness.trigger("numbered")
    harness.reach("numbered", "round_1.review", "deferred")
    key = harness.key("numbered")
    asked = harness.stack.api.review(key.dag_id, key.run_id, "round_1.review")
    assert asked["assigned_users"] == [{"id": NUMBERS[COMMANDER], "name": COMMANDER}]
    for user in (ADMIN, OTHER):
        assert harness.answer("numbered", "Go on", "I would like to", user=user).status_code == 403
    assert harness.answer("numbered", "Roll back now", "hand-offs", user=COMMANDER).status_code == 200
    assert harness.end("numbered") == "success"
    final = harness.rollout("numbered").final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, COMMANDER)
    assert harness.weights("numbered") == {BASELINE: 1.0}
    logs = harness.stack.api.call("GET", f"/eventLogs?dag_id={key.dag_id}&limit=1000")["event_logs"]
    tried = {log["owner"] for log in logs if "hitl" in log["event"]}
    assert tried == {ADMIN, OTHER, COMMANDER}


def test_a_commander_by_name_whom_fab_cannot_know_is_refused_before_anything_is_shipped(
    harness: Harness,
) -> None:
    harness.trigger("named")
    assert harness.end("named") == "failed"
    assert harness.changes("named") == []
    harness.wait_for_log("named", "preflight", "users of FabAuthManager are known by their number")
