"""What happens to Airflow in mid-watch: triggerers killed, databases gone; both databases on PostgreSQL.

Every verdict equals what `replay` says about the same data.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine

from demo.waiting import DemoError, wait_for
from rollback_budget.engine.evaluation import VerdictKind
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.sql.source import SqlSeries
from tests.stack.airflow_harness import PATIENCE_S, RELEASE, Harness, Scenario
from tests.support.postgres import Postgres, find_binaries, running_postgres
from tests.support.replay import Outcome, replay_window

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

BUDGETS = {
    "safety": {"high_severity_incidents_increase": 0, "action": "immediate_rollback"},
    "escalation": {"human_handoff_above": 0.4, "max_duration": "4s", "tier": "a", "method": "threshold"},
}
SCENARIOS = [
    Scenario("unwatched", 900, BUDGETS),
    Scenario("inherited", 900, BUDGETS),
    Scenario("inherited_too", 900, BUDGETS),
    Scenario("no_database", 900, BUDGETS),
    Scenario("kept", 70, BUDGETS),
]
#: Airflow's own values are 5 s and 30 s; nothing else changes by making them shorter.
QUICK = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL of its own, since it is stopped."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server found under /usr/lib/postgresql; install the package postgresql")
    with running_postgres(binaries) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, cluster: Postgres) -> Iterator[Harness]:
    harness = Harness(
        tmp_path_factory.mktemp("faults"),
        SCENARIOS,
        database_url=cluster.database().replace("postgresql:", "postgresql+psycopg2:"),
        ledger_url=cluster.database(),
        environment=QUICK,
    )
    try:
        harness.start()
        for scenario in SCENARIOS:
            harness.trigger(scenario.name)
        for scenario in SCENARIOS:
            harness.reach(scenario.name, "round_1.watch", "deferred")
        yield harness
    finally:
        harness.stop()


def wait_for_incident(harness: Harness, name: str) -> datetime:
    """Wait until the log holds an incident of the release; return when the first one was."""

    def first() -> float | None:
        with closing(sqlite3.connect(harness.folder / f"{name}.db", timeout=30)) as connection:
            query = "SELECT MIN(ts) FROM requests WHERE incident AND version = ?"
            found: float | None = connection.execute(query, (RELEASE,)).fetchone()[0]
            return found

    return datetime.fromtimestamp(wait_for(first, "an incident in the log", timeout_s=PATIENCE_S) or 0, UTC)


def jobs(harness: Harness) -> list[dict[str, Any]]:
    """Return the triggerers that are alive."""
    found: dict[str, Any] = harness.stack.api.call("GET", "/jobs?job_type=TriggererJob&is_alive=true")
    return list(found["jobs"])


def triggerers(harness: Harness) -> dict[str, int | None]:
    """Return which triggerer holds the watch of each rollout, by the id of its job."""

    def of(name: str) -> int | None:
        path = (
            f"/dags/{harness.key(name).dag_id}/dagRuns/{harness.key(name).run_id}/taskInstances/round_1.watch"
        )
        watch: dict[str, Any] = harness.stack.api.call("GET", path)
        job = watch["triggerer_job"]
        return None if job is None else int(job["id"])

    return {name: of(name) for name in harness.runs if harness.states(name)["round_1.watch"] == "deferred"}


def assert_replay_agrees(harness: Harness, name: str) -> None:
    [said] = [logged.evaluation for logged in harness.ledger.evaluations.of(harness.key(name))]
    rollout = harness.rollout(name)
    engine = create_engine(f"sqlite:///{harness.folder / name}.db")

    async def open_source(spec: RolloutSpec) -> SqlSeries:
        return SqlSeries.of(spec, engine)

    until = min(datetime.now(UTC) - rollout.spec.watch.settle, said.window_end)
    replayed = replay_window(
        open_source,
        harness.budgets / f"{name}.yaml",
        rollout.spec,
        said.window_start,
        until,
        harness.folder / f"{name}.csv",
    )
    engine.dispose()
    assert Outcome.of(said) == Outcome.of(replayed)
    assert len(harness.ledger.breaches.of(harness.key(name))) == len(said.breaches)


def test_a_breach_while_no_triggerer_runs_is_found_at_its_true_time(harness: Harness) -> None:
    harness.stack.kill("triggerer")
    harness.worsen("unwatched", incident=0.5)
    happened = wait_for_incident(harness, "unwatched")
    harness.stack.start("triggerer")
    harness.reach("unwatched", "round_1.watch", "success")
    harness.stack.start_another_triggerer("triggerer-2")
    assert harness.end("unwatched") == "success"
    assert harness.final("unwatched") is FinalDecision.ROLLED_BACK
    [logged] = harness.ledger.breaches.of(harness.key("unwatched"))
    assert happened <= logged.breach.breached_at <= happened + timedelta(seconds=1)
    assert_replay_agrees(harness, "unwatched")


def test_all_watches_of_a_dead_triggerer_are_taken_over_by_another(harness: Harness) -> None:
    before = triggerers(harness)
    [dead] = set(before.values())
    wait_for(lambda: len(jobs(harness)) == 2, "two live triggerers", timeout_s=PATIENCE_S)
    harness.stack.kill("triggerer")
    harness.worsen("inherited", incident=0.5)
    harness.worsen("inherited_too", handoff=0.9)

    def all_taken() -> bool:
        return dead not in triggerers(harness).values()

    wait_for(all_taken, "every watch to be taken over", timeout_s=PATIENCE_S)
    for name in ("inherited", "inherited_too"):
        assert harness.end(name) == "success"
        assert harness.final(name) is FinalDecision.ROLLED_BACK
        assert_replay_agrees(harness, name)


def test_a_breach_while_both_databases_are_gone_is_decided_once_when_they_are_back(
    harness: Harness, cluster: Postgres
) -> None:
    cluster.stop()
    harness.worsen("no_database", incident=0.5)
    wait_for_incident(harness, "no_database")
    cluster.start()

    def ended() -> str | None:
        harness.stack.revive()
        try:
            state = harness.stack.api.run_state(
                harness.key("no_database").dag_id, harness.runs["no_database"]
            )
        except (DemoError, httpx.HTTPError):
            return None
        return state if state in ("success", "failed") else None

    assert wait_for(ended, "the end of the rollout", timeout_s=PATIENCE_S) == "success"
    assert harness.final("no_database") is FinalDecision.ROLLED_BACK
    assert_replay_agrees(harness, "no_database")


def test_a_rollout_that_lived_through_all_this_unharmed_is_promoted(harness: Harness) -> None:
    assert harness.end("kept") == "success"
    assert harness.final("kept") is FinalDecision.PROMOTED
    [logged] = harness.ledger.evaluations.of(harness.key("kept"))
    assert (logged.evaluation.verdict, logged.evaluation.final) == (VerdictKind.HEALTHY, True)
    assert_replay_agrees(harness, "kept")
