"""A rollback needs nothing of Airflow when it leaves: its connections were looked up before."""

from __future__ import annotations

import logging
from threading import Event

import pytest
from airflow.sdk import Connection

from rollback_budget.hooks import traffic_target
from rollback_budget.hooks.traffic_target import FRESH_FOR, KeptConnections
from tests.support.control_plane import TARGET
from tests.support.rollouts import make_spec

pytestmark = pytest.mark.airflow

LOG = logging.getLogger(__name__)
SPEC = make_spec(target=TARGET)


class Airflow:
    """Looks connections up, as long as it is there."""

    def __init__(self) -> None:
        self.host = "router-1"
        self.is_there = True
        self.lookups = 0
        self.elapsed = 0.0

    def look_up(self, conn_id: str) -> Connection:
        self.lookups += 1
        if not self.is_there:
            raise RuntimeError("no answer")
        return Connection(conn_id=conn_id, conn_type="http", host=self.host, extra='{"X-Team": "llm"}')


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def kept(airflow: Airflow) -> KeptConnections:
    return KeptConnections(airflow.look_up, lambda: airflow.elapsed)


def test_a_connection_is_used_as_it_is_now(airflow: Airflow, kept: KeptConnections) -> None:
    kept.keep(SPEC, LOG)
    airflow.host = "router-2"
    assert kept.get("router").host == "router-2"


def test_without_airflow_it_is_used_as_it_was(airflow: Airflow, kept: KeptConnections) -> None:
    kept.keep(SPEC, LOG)
    airflow.is_there = False
    connection = kept.get("router")
    assert (connection.host, connection.extra_dejson) == ("router-1", {"X-Team": "llm"})


def test_an_airflow_that_hangs_is_not_waited_for(
    kept: KeptConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(SPEC, LOG)
    monkeypatch.setattr(traffic_target, "LOOKUP_TIMEOUT", FRESH_FOR / 1e6)
    test_is_over = Event()

    def hang(_conn_id: str) -> Connection:
        test_is_over.wait()
        raise RuntimeError

    monkeypatch.setattr(kept, "_look_up", hang)
    try:
        assert kept.get("router").host == "router-1"
    finally:
        test_is_over.set()


def test_looking_up_ahead_of_a_rollback_ends_when_airflow_hangs(
    kept: KeptConnections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traffic_target, "LOOKUP_AHEAD_TIMEOUT", FRESH_FOR / 1e6)
    test_is_over = Event()

    def hang(_conn_id: str) -> Connection:
        test_is_over.wait()
        raise RuntimeError

    monkeypatch.setattr(kept, "_look_up", hang)
    try:
        kept.keep(SPEC, LOG)
    finally:
        test_is_over.set()
    assert "cannot be read ahead of a rollback: no answer within" in caplog.text


def test_what_was_never_looked_up_fails_as_airflow_says(airflow: Airflow, kept: KeptConnections) -> None:
    airflow.is_there = False
    kept.keep(SPEC, LOG)
    with pytest.raises(RuntimeError, match="no answer"):
        kept.get("router")


def test_many_watches_of_one_target_look_it_up_once_in_a_while(
    airflow: Airflow, kept: KeptConnections
) -> None:
    for _ in range(100):
        kept.keep(SPEC, LOG)
    assert airflow.lookups == 1
    airflow.elapsed += FRESH_FOR.total_seconds()
    kept.keep(SPEC, LOG)
    assert airflow.lookups == 2


def test_what_the_first_request_would_import_is_imported_ahead_of_it(
    kept: KeptConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr(traffic_target, "load_blocking_client", lambda: loaded.append(1))
    kept.keep(SPEC, LOG)
    assert loaded
