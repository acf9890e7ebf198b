"""Airflow makes sure, when it starts, that the tasks of rollouts have a pool to run in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from airflow.jobs.job import Job
from airflow.models.base import Base
from airflow.models.pool import Pool
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from rollback_budget import listener
from rollback_budget.common.pool import SLOTS, create_pool

pytestmark = [pytest.mark.airflow, pytest.mark.database]

#: As Airflow hands it over: without its type yet, and here without its database.
COMPONENT = Job.__new__(Job)


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


@pytest.mark.parametrize("component", [COMPONENT, SimpleNamespace(), object()])
def test_components_create_it_and_tasks_do_not(
    component: object, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.utils.session.create_session", lambda: nullcontext(session))
    listener.on_starting(component)
    assert bool(pools(session)) == (component is COMPONENT)


def test_a_component_starts_without_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Session:
        raise RuntimeError("no database")

    monkeypatch.setattr("airflow.utils.session.create_session", fail)
    with caplog.at_level(logging.ERROR):
        listener.on_starting(COMPONENT)
    assert "rollback-budget setup" in caplog.text
