"""Airflow's components make sure, when they start, that the tasks of rollouts have a pool to run in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from airflow.jobs.job import Job
from airflow.models.base import Base
from airflow.models.pool import Pool
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from rollback_budget import listener
from rollback_budget.common.pool import SLOTS, create_pool

pytestmark = [pytest.mark.airflow, pytest.mark.database]


@pytest.fixture
def session() -> Iterator[Session]:
    """Airflow's table of pools, in memory."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine, tables=[Pool.__table__])
    with Session(engine) as session:
        yield session


def pools(session: Session) -> list[tuple[str, int]]:
    return [(pool.pool, pool.slots) for pool in session.scalars(select(Pool))]


def test_the_pool_is_created_once(session: Session) -> None:
    assert create_pool(session)
    assert not create_pool(session)
    assert pools(session) == [("rollback_budget", SLOTS)]


def test_a_pool_of_the_teams_stays_as_it_is(session: Session) -> None:
    session.add(Pool(pool="rollback_budget", slots=3, include_deferred=False))
    assert not create_pool(session)
    assert pools(session) == [("rollback_budget", 3)]


def test_a_component_that_starts_creates_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.utils.session.create_session", lambda: nullcontext(session))
    # As `airflow scheduler` does: what kind of job it is, is set later.
    Job()
    assert pools(session) == [("rollback_budget", SLOTS)]


def test_a_process_that_runs_a_task_leaves_the_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Session:
        raise AssertionError("there is no database")

    monkeypatch.setattr("airflow.utils.session.create_session", fail)
    listener.on_starting(TaskRunnerMarker())


def test_two_components_that_start_at_once_create_one(session: Session) -> None:
    class SeesNone(Session):
        """Does not see yet what another one has just created."""

        def scalar(self, *_args: Any, **_kwargs: Any) -> Any:
            return None

    assert create_pool(session)
    session.commit()
    with SeesNone(session.get_bind()) as other:
        assert not create_pool(other)
        other.commit()
    assert pools(session) == [("rollback_budget", SLOTS)]


def test_a_component_starts_without_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Session:
        raise RuntimeError("no database")

    monkeypatch.setattr("airflow.utils.session.create_session", fail)
    with caplog.at_level(logging.ERROR):
        Job()
    assert "rollback-budget setup" in caplog.text
