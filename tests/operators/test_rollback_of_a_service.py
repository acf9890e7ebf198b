"""Rollbacks of the simulated service, over HTTP by Airflow connections, as control planes fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.service import SimulatedService
from demo.traffic import Behaviour
from demo.waiting import wait_for
from rollback_budget.budget_file import load_budget
from rollback_budget.hooks.metric_source import open_source
from rollback_budget.hooks.traffic_target import open_target
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpTarget
from rollback_budget.targets.apply import ChangeReport, Outcome, TrafficChange, change_traffic
from rollback_budget.targets.verification import ReleaseTraffic

pytestmark = [pytest.mark.airflow, pytest.mark.service]

BUDGETS = Path(__file__).resolve().parents[2] / "budgets"
RELEASE, BASELINE = "model-v42", "model-v41"
SHIPPED = {RELEASE: 0.5, BASELINE: 0.5}
ROLLED_BACK = {RELEASE: 0.0, BASELINE: 1.0}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedService]:
    database = tmp_path / "requests.db"
    behaviours = {BASELINE: Behaviour(), RELEASE: Behaviour()}
    with SimulatedService(behaviours, database=database, rate=200) as running:
        monkeypatch.setenv("AIRFLOW_CONN_TRAFFIC_ROUTER", running.url)
        monkeypatch.setenv("AIRFLOW_CONN_REQUEST_LOG", f"sqlite:///{database}")
        monkeypatch.setenv("NO_PROXY", "*")
        put(running, SHIPPED)
        yield running


def put(service: SimulatedService, weights: dict[str, float]) -> None:
    answer = httpx.put(f"{service.url}/control/traffic", json={"weights": weights}, trust_env=False)
    answer.raise_for_status()


def fault(service: SimulatedService, control: str) -> None:
    url = f"{service.url}/simulate/faults"
    httpx.post(url, json={"control": control}, trust_env=False).raise_for_status()


def keys(service: SimulatedService) -> list[str | None]:
    return [change.idempotency_key for change in service.router.changes]


def spec_with(deadline_s: float) -> RolloutSpec:
    spec = load_budget(BUDGETS / "model-v42.yaml")
    assert isinstance(spec.target, HttpTarget)
    times: dict[str, Any] = {
        "deadline": timedelta(seconds=deadline_s),
        "request_timeout": timedelta(seconds=0.5),
    }
    watch = {"step": timedelta(seconds=1), "settle": timedelta(0)}
    return spec.model_copy(
        update={
            "target": spec.target.model_copy(update=times),
            "watch": spec.watch.model_copy(update=watch),
        }
    )


def roll_back(deadline_s: float = 20) -> ChangeReport:
    spec = spec_with(deadline_s)
    change = TrafficChange(ROLLED_BACK, [SHIPPED], "run/rollback", timedelta(seconds=deadline_s))
    with asyncio.Runner() as runner:
        observe = ReleaseTraffic(spec, open_source, runner)
        poll = timedelta(seconds=0.2)
        return change_traffic(open_target(spec), change, observe=observe, poll=poll)


def test_a_rollback_is_proven_by_the_requests_in_the_log(service: SimulatedService) -> None:
    report = roll_back()
    assert report.outcome is Outcome.EFFECTIVE
    assert report.data_plane.startswith("0 of ")
    assert service.router.applied == ROLLED_BACK
    assert keys(service)[-1] == "run/rollback"


def test_a_lost_reply_is_found_to_have_taken_effect_and_is_not_sent_twice(service: SimulatedService) -> None:
    fault(service, "lose_reply")
    assert roll_back().outcome is Outcome.EFFECTIVE
    assert keys(service).count("run/rollback") == 1


@pytest.mark.parametrize("control", ["error500", "hang"])
def test_a_control_plane_that_is_down_for_the_whole_deadline_fails_the_rollback(
    service: SimulatedService, control: str
) -> None:
    fault(service, control)
    report = roll_back(deadline_s=2)
    assert report.outcome is Outcome.FAILED
    assert "500" in report.detail or "no answer within" in report.detail


def test_a_control_plane_that_comes_back_in_time_is_used(service: SimulatedService) -> None:
    fault(service, "error500")
    spec = spec_with(30)
    messages: list[str] = []

    def repair(message: str) -> None:
        messages.append(message)
        fault(service, "ok")

    change = TrafficChange(ROLLED_BACK, [SHIPPED], "run/rollback", timedelta(seconds=30))
    report = change_traffic(open_target(spec), change, poll=timedelta(seconds=0.1), log=repair)
    assert report.outcome is Outcome.EFFECTIVE
    assert "500" in messages[0]


def test_accepted_but_not_served_is_not_effective(service: SimulatedService) -> None:
    fault(service, "accept_only")
    assert roll_back(deadline_s=2).outcome is Outcome.ACCEPTED_NOT_EFFECTIVE


def test_served_by_word_only_is_seen_in_the_traffic(service: SimulatedService) -> None:
    fault(service, "control_only")
    report = roll_back(deadline_s=5)
    assert report.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert report.control_plane == f"{BASELINE} 100 %"
    assert not report.data_plane.startswith("0 of ")


def test_the_change_of_another_user_is_respected(service: SimulatedService) -> None:
    put(service, {RELEASE: 0.2, BASELINE: 0.8})
    assert roll_back().outcome is Outcome.SUPERSEDED
    wait_for(lambda: service.router.applied[RELEASE] == 0.2, "the other change to hold", timeout_s=5)
