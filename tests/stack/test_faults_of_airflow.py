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
from tests.stack.airflow_harness import RELEASE, Harness, Scenario
from tests.support.postgres import Postgres, find_binaries, running_postgres
from tests.support.replay import Outcome, replay_window

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

BUDGETS = {
    "safety": {"high_severity_incidents_increase": 0, "action": "immediate_rollback"},
    "escalation": {"human_handoff_delta_pct": 100, "max_duration": "4s", "tier": "a", "method": "threshold"},
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
    """A PostgreSQL that nobody else uses, since it is taken away."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server found under /usr/lib/postgresql; install the package postgresql")
    with running_postgres(binaries) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, cluster: Postgres) -> Iterator[Harness]:
    field = Harness(
        tmp_path_factory.mktemp("faults"),
        SCENARIOS,
        database_url=cluster.database().replace("postgresql:", "postgresql+psycopg2:"),
        ledger_url=cluster.database(),
        environment=QUICK,
    )
    try:
        field.start()
        for scenario in SCENARIOS:
            field.trigger(scenario.name)
        for scenario in SCENARIOS:
            field.reach(scenario.name, "round_1.watch", "deferred")
        yield field
    finally:
        field.stop()


def wait_for_incident(field: Harness, name: str) -> datetime:
    """Wait until the log holds an incident of the release; return when the first one was."""

    def first() -> float | None:
        with closing(sqlite3.connect(field.folder / f"{name}.db", timeout=30)) as connection:
            query = "SELECT MIN(ts) FROM requests WHERE incident AND version = ?"
            found: float | None = connection.execute(query, (RELEASE,)).fetchone()[0]
            return found

    return datetime.fromtimestamp(wait_for(first, "an incident in the log", timeout_s=30) or 0, UTC)


def jobs(field: Harness) -> list[dict[str, Any]]:
    """Return the triggerers that are alive."""
    found: dict[str, Any] = field.stack.api.call("GET", "/jobs?job_type=TriggererJob&is_alive=true")
    return list(found["jobs"])


def triggerers(field: Harness) -> dict[str, int | None]:
    """Return which triggerer holds the watch of each rollout, by the id of its job."""

    def of(name: str) -> int | None:
        path = f"/dags/{field.key(name).dag_id}/dagRuns/{field.key(name).run_id}/taskInstances/round_1.watch"
        watch: dict[str, Any] = field.stack.api.call("GET", path)
        job = watch["triggerer_job"]
        return None if job is None else int(job["id"])

    return {name: of(name) for name in field.runs if field.states(name)["round_1.watch"] == "deferred"}


def assert_replay_agrees(field: Harness, name: str) -> None:
    [said] = [logged.evaluation for logged in field.ledger.evaluations.of(field.key(name))]
    rollout = field.rollout(name)
    engine = create_engine(f"sqlite:///{field.folder / name}.db")

    async def open_source(spec: RolloutSpec) -> SqlSeries:
        return SqlSeries.of(spec, engine)

    until = min(datetime.now(UTC) - rollout.spec.watch.settle, said.window_end)
    replayed = replay_window(
        open_source,
        field.budgets / f"{name}.yaml",
        rollout.spec,
        said.window_start,
        until,
        field.folder / f"{name}.csv",
    )
    engine.dispose()
    assert Outcome.of(said) == Outcome.of(replayed)
    assert len(field.ledger.breaches.of(field.key(name))) == len(said.breaches)


def test_a_breach_while_no_triggerer_runs_is_found_at_its_true_time(field: Harness) -> None:
    field.stack.kill("triggerer")
    field.worsen("unwatched", incident=0.5)
    happened = wait_for_incident(field, "unwatched")
    field.stack.start("triggerer")
    field.reach("unwatched", "round_1.watch", "success")
    field.stack.start_another_triggerer("triggerer-2")
    assert field.end("unwatched") == "success"
    assert field.final("unwatched") is FinalDecision.ROLLED_BACK
    [logged] = field.ledger.breaches.of(field.key("unwatched"))
    assert happened <= logged.breach.breached_at <= happened + timedelta(seconds=1)
    assert_replay_agrees(field, "unwatched")


def test_all_watches_of_a_dead_triggerer_are_taken_over_by_another(field: Harness) -> None:
    before = triggerers(field)
    [dead] = set(before.values())
    wait_for(lambda: len(jobs(field)) == 2, "two live triggerers", timeout_s=60)
    field.stack.kill("triggerer")
    field.worsen("inherited", incident=0.5)
    field.worsen("inherited_too", handoff=0.9)

    def all_taken() -> bool:
        return dead not in triggerers(field).values()

    wait_for(all_taken, "every watch to be taken over", timeout_s=60)
    for name in ("inherited", "inherited_too"):
        assert field.end(name) == "success"
        assert field.final(name) is FinalDecision.ROLLED_BACK
        assert_replay_agrees(field, name)


def test_a_breach_while_both_databases_are_gone_is_decided_once_when_they_are_back(
    field: Harness, cluster: Postgres
) -> None:
    cluster.stop()
    field.worsen("no_database", incident=0.5)
    wait_for_incident(field, "no_database")
    cluster.start()

    def ended() -> str | None:
        field.stack.revive()
        try:
            state = field.stack.api.run_state(field.key("no_database").dag_id, field.runs["no_database"])
        except (DemoError, httpx.HTTPError):
            return None
        return state if state in ("success", "failed") else None

    assert wait_for(ended, "the end of the rollout", timeout_s=180) == "success"
    assert field.final("no_database") is FinalDecision.ROLLED_BACK
    assert_replay_agrees(field, "no_database")


def test_a_rollout_that_lived_through_all_this_unharmed_is_promoted(field: Harness) -> None:
    assert field.end("kept") == "success"
    assert field.final("kept") is FinalDecision.PROMOTED
    [logged] = field.ledger.evaluations.of(field.key("kept"))
    assert (logged.evaluation.verdict, logged.evaluation.final) == (VerdictKind.HEALTHY, True)
    assert_replay_agrees(field, "kept")
