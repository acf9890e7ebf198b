from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from demo.router import Router
from demo.service import SimulatedService
from demo.traffic import Behaviour, Traffic

pytestmark = pytest.mark.service

BASELINE, RELEASE = "model-v41", "model-v42"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "requests.db"


@pytest.fixture
def service(database: Path) -> Iterator[SimulatedService]:
    behaviours = {BASELINE: Behaviour(), RELEASE: Behaviour(handoff=0.0, incident=0.0)}
    with SimulatedService(behaviours, database=database, rate=200, seed=7) as running:
        yield running


@pytest.fixture
def http(service: SimulatedService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=5, trust_env=False) as client:
        yield client


def shift(http: httpx.Client, release: float, **headers: str) -> httpx.Response:
    body = {"weights": {BASELINE: 1 - release, RELEASE: release}}
    return http.put(
        "/control/traffic", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def query(database: Path, statement: str, *values: float | str) -> list[tuple[float, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement, values).fetchall()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def test_a_stale_revision_is_refused_and_changes_nothing(http: httpx.Client) -> None:
    before = http.get("/control/traffic")
    assert before.headers["ETag"] == f'"{before.json()["revision"]}"'
    assert shift(http, 0.5, If_Match=before.headers["ETag"]).status_code == 200
    refused = shift(http, 0.9, If_Match=before.headers["ETag"])
    assert refused.status_code == 412
    assert http.get("/control/traffic").json()["weights"] == {BASELINE: 0.5, RELEASE: 0.5}
    assert shift(http, 0.2).status_code == 200


def test_a_repeated_idempotency_key_gets_the_first_answer_and_changes_nothing(http: httpx.Client) -> None:
    first = shift(http, 0.0, Idempotency_Key="rollback-1", X_Changed_By="rollback-budget")
    shift(http, 0.7, X_Changed_By="a human")
    assert shift(http, 0.0, Idempotency_Key="rollback-1").json() == first.json()
    now = http.get("/control/traffic").json()
    assert (now["weights"][RELEASE], now["changed_by"]) == (0.7, "a human")
    changes = http.get("/control/changes").json()["changes"]
    assert [change["idempotency_key"] for change in changes] == ["rollback-1", None]
    assert changes[0]["changed_by"] == "rollback-budget"
    assert changes[0]["at"] == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize(
    "weights",
    [{"model-v99": 1}, {}, {RELEASE: -1}, {RELEASE: "all"}, {RELEASE: 0}, {RELEASE: float("nan")}, None],
)
def test_weights_that_make_no_sense_are_refused(service: SimulatedService, weights: object) -> None:
    assert service.router.change(weights).status == 422
    assert service.router.changes == []


def test_requests_follow_the_weights(http: httpx.Client, database: Path) -> None:
    def count(since: float) -> dict[str, int]:
        statement = "SELECT version, count(*) FROM requests WHERE ts > ? GROUP BY version"
        return {str(version): int(n) for version, n in query(database, statement, since)}

    wait_until(lambda: count(0).get(BASELINE, 0) > 20)
    assert RELEASE not in count(0)
    shift(http, 0.5)
    split_at = time.time()
    wait_until(lambda: sum(count(split_at).values()) > 100)
    assert 0.3 < count(split_at)[RELEASE] / sum(count(split_at).values()) < 0.7
    shift(http, 0.0)
    back_at = time.time()
    wait_until(lambda: sum(count(back_at).values()) > 50)
    assert RELEASE not in count(back_at)


def test_a_version_slides_to_a_new_behaviour(http: httpx.Client, database: Path) -> None:
    shift(http, 1.0)
    assert http.post(f"/simulate/{RELEASE}", json={"handoff": 1.0, "latency_s": 4.0}).status_code == 200
    slid_at = time.time()
    statement = "SELECT count(*), avg(handoff), avg(latency_s) FROM requests WHERE ts > ?"
    wait_until(lambda: query(database, statement, slid_at)[0][0] > 50)
    _, handoff, latency_s = query(database, statement, slid_at)[0]
    assert handoff == 1.0
    assert 3 < latency_s < 6
    assert http.post(f"/simulate/{RELEASE}", json={"handoff": 1.5}).status_code == 422
    assert http.post(f"/simulate/{RELEASE}", json={"mood": 1}).status_code == 422
    assert http.post("/simulate/model-v99", json={"handoff": 0.5}).status_code == 404


def test_faults_are_what_they_say(http: httpx.Client, service: SimulatedService) -> None:
    shift(http, 1.0)

    def break_it(fault: str) -> None:
        assert http.post("/simulate/faults", json={"control": fault}).status_code == 200

    break_it("error500")
    assert (http.get("/control/traffic").status_code, shift(http, 0.0).status_code) == (500, 500)
    break_it("hang")
    with pytest.raises(httpx.ReadTimeout):
        http.get("/control/traffic", timeout=0.3)
    break_it("accept_only")
    assert shift(http, 0.0).status_code == 200
    assert http.get("/control/traffic").json()["weights"][RELEASE] == 1.0
    break_it("control_only")
    assert shift(http, 0.0).status_code == 200
    assert http.get("/control/traffic").json()["weights"][RELEASE] == 0.0
    assert service.traffic.draw(time.time()).version == RELEASE
    break_it("lose_reply")
    with pytest.raises(httpx.RemoteProtocolError):
        shift(http, 0.25, Idempotency_Key="lost")
    break_it("ok")
    assert shift(http, 0.25, Idempotency_Key="lost").json()["weights"][RELEASE] == 0.25
    assert len(service.router.changes) == 4
    assert http.post("/simulate/faults", json={"control": "on fire"}).status_code == 422


def test_one_request_is_answered_logged_and_says_that_it_is_simulated(
    http: httpx.Client, database: Path
) -> None:
    answer = http.post("/generate", json={"prompt": "hello"}).json()
    assert "simulation" in answer["simulation"]
    assert query(database, "SELECT count(*) FROM requests WHERE ts = ?", answer["ts"]) == [(1,)]


def test_a_version_with_a_fault_answers_the_questions_of_its_incidents_wrongly_every_time() -> None:
    versions = {BASELINE: Behaviour(), RELEASE: Behaviour(incident=1.0)}
    traffic = Traffic(Router({RELEASE: 1.0}), versions, rate=1, seed=0, began_at=0)
    incident = traffic.draw(1)
    assert incident.incident
    assert incident.output == traffic.answer(RELEASE, incident.input) != ""
    assert "cannot share" in traffic.answer(BASELINE, incident.input)
    traffic.steer(RELEASE, Behaviour())
    assert "cannot share" in traffic.answer(RELEASE, incident.input)


def test_an_evaluator_is_answered_by_the_version_it_names_and_leaves_no_request(
    http: httpx.Client, database: Path
) -> None:
    asked = "Where is my parcel?"
    answer = http.post(f"/generate/{RELEASE}", json={"input": asked}).json()
    assert (answer["version"], "arrives tomorrow" in answer["text"]) == (RELEASE, True)
    assert http.post("/generate/nobody", json={"input": asked}).status_code == 404
    assert query(database, "SELECT count(*) FROM requests WHERE input = ?", asked) == [(0,)]


def test_the_same_seed_draws_the_same_requests() -> None:
    def draw(seed: int) -> object:
        router = Router({BASELINE: 0.5, RELEASE: 0.5})
        behaviours = {BASELINE: Behaviour(), RELEASE: Behaviour()}
        traffic = Traffic(router, behaviours, rate=50, seed=seed, began_at=1000)
        traffic.steer(RELEASE, Behaviour(handoff=0.9), ramp_s=4, now=1001)
        halves = traffic.draw_until(1003) + traffic.draw_until(1010)
        assert len(halves) == 500
        return halves

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_ramp_is_linear_and_ends_where_it_was_sent() -> None:
    traffic = Traffic(Router({RELEASE: 1.0}), {RELEASE: Behaviour(handoff=0.0)}, rate=1, seed=0, began_at=0)
    traffic.steer(RELEASE, Behaviour(handoff=0.8), ramp_s=10, now=100)
    shares = [traffic.behaviour(RELEASE, moment).handoff for moment in (100, 105, 110, 500)]
    assert shares == pytest.approx([0.0, 0.4, 0.8, 0.8])
