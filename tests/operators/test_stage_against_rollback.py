"""A stage that is raised at the very moment of a rollback leaves the release without traffic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, TaskDeferred

from rollback_budget.clock import utc_now
from rollback_budget.common.xcom import Shipment, Tasks
from rollback_budget.hooks import traffic_target
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.decision import OnTimeout
from rollback_budget.model.target import Stage
from rollback_budget.operators.traffic_ramp import StagesOperator
from rollback_budget.rollback import request as requesting
from rollback_budget.rollback.order import RollbackOrder, rollback_key
from rollback_budget.targets import apply as change
from rollback_budget.targets.apply import Outcome
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.triggers.on_verdict import rollback_sender
from tests.operators.scenarios import FastClock
from tests.support.control_plane import TARGET, ControlPlane
from tests.support.rollouts import KEY, make_spec

pytestmark = [pytest.mark.airflow, pytest.mark.database]

HOUR = timedelta(hours=1)
SPEC = make_spec(
    target=TARGET.model_copy(
        update={"ship_share": 0.5, "stages": (Stage(traffic=0.05, hold=timedelta(minutes=1)),)}
    )
)
SHIPPED = {SPEC.release: 0.05, SPEC.baseline: 0.95}
ROLLED_BACK = {SPEC.release: 0.0, SPEC.baseline: 1.0}


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> ControlPlane:
    plane = ControlPlane(dict(SHIPPED))
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())
    monkeypatch.setattr(traffic_target, "open_target", lambda _spec: plane)
    monkeypatch.setattr(traffic_target, "open_target_in_time", lambda _spec, _most: nullcontext(plane))
    monkeypatch.setattr(requesting, "STAGE_WAIT", timedelta(milliseconds=20))
    return plane


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", url)
    ledger = Ledger(url)
    ledger.migrate()
    ledger.rollouts.open(KEY, SPEC, utc_now() - HOUR)
    return ledger


def raise_stage() -> None:
    """Run the task whose next stage is due since long."""
    start = utc_now() - HOUR
    shipment = Shipment(window_start=start, window_end=start + SPEC.window, shares=SHIPPED)
    left = {
        ("preflight", "return_value"): SPEC.canonical_json(),
        ("ship", "return_value"): shipment.model_dump(mode="json"),
    }
    ti = SimpleNamespace(xcom_pull=lambda task_ids, key: left.get((task_ids, key)))
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(dag_id=KEY.dag_id, run_id=KEY.run_id)}
    StagesOperator(task_id="stages", tasks=Tasks(), rounds=1).execute(context)


def roll_back(operator_log: Any) -> None:
    terms = rollback_terms(SPEC, SHIPPED)
    assert terms is not None
    rollback_sender(operator_log).request(
        RollbackOrder(rollout=KEY, spec=SPEC, terms=terms), "the rule", "one incident"
    )


def at_the_write_of(kind: str, act: Callable[[], None]) -> Callable[[str], None]:
    """Return a hook that acts inside the first write of this kind, before it lands."""
    seen: list[str] = []

    def before_write(key: str) -> None:
        if kind in key and kind not in seen:
            seen.append(kind)
            act()

    return before_write


def test_a_stage_is_raised_once_it_is_due(plane: ControlPlane, ledger: Ledger) -> None:
    raise_stage()
    assert plane.shares[SPEC.release] == 0.5
    assert [stage.stage for stage in ledger.stages.of(KEY)] == [1, 2]
    assert ledger.stages.write_until(KEY) is None


def test_after_the_final_decision_no_stage_is_raised(plane: ControlPlane, ledger: Ledger) -> None:
    ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "one incident", utc_now())
    raise_stage()
    assert plane.accepted == []


def test_a_stage_that_lands_after_the_rollback_is_taken_back(plane: ControlPlane, ledger: Ledger) -> None:
    log = logging.getLogger(__name__)
    # The write of the stage hangs for longer than a rollback waits, and lands after it: the target has no
    # revisions, so it does not refuse.
    plane.before_write = at_the_write_of("stage_2", lambda: roll_back(log))
    with pytest.raises(AirflowSkipException, match="the ramp ends here"):
        raise_stage()
    # With a key of its own: a target that knows the rollback's would answer that it has done it.
    assert [key.rsplit("/", 1)[1] for key, _ in plane.accepted] == ["rollback", "stage_2", "after_stage"]
    assert plane.shares == ROLLED_BACK
    assert ledger.stages.write_until(KEY) is None


def test_one_that_lands_after_a_rollback_that_is_verified_already_is_taken_back(
    plane: ControlPlane, ledger: Ledger
) -> None:
    log = logging.getLogger(__name__)

    def roll_back_and_verify() -> None:
        roll_back(log)
        ledger.rollbacks.record(
            KEY, RollbackRecord(rollback_key(KEY), Outcome.EFFECTIVE, utc_now(), utc_now())
        )

    plane.before_write = at_the_write_of("stage_2", roll_back_and_verify)
    with pytest.raises(AirflowSkipException, match="the ramp ends here"):
        raise_stage()
    assert plane.shares == ROLLED_BACK


def test_one_whose_task_was_killed_in_mid_write_is_taken_back_by_its_next_try(
    plane: ControlPlane, ledger: Ledger
) -> None:
    class KilledError(BaseException):
        pass

    def be_killed(_self: StagesOperator, *_: Any) -> None:
        raise KilledError

    plane.before_write = at_the_write_of("stage_2", lambda: roll_back(logging.getLogger(__name__)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StagesOperator, "_after_write", be_killed)
        with pytest.raises(KilledError):
            raise_stage()
    assert plane.shares[SPEC.release] == 0.5
    raise_stage()
    assert plane.shares == ROLLED_BACK
    assert ledger.stages.write_until(KEY) is None


def test_a_stage_that_cannot_be_taken_back_fails_its_task(plane: ControlPlane, ledger: Ledger) -> None:
    def refuse() -> None:
        roll_back(logging.getLogger(__name__))
        plane.before_write = lambda key: setattr(plane, "refuses", -1 if "after" in key else 0)

    plane.before_write = at_the_write_of("stage_2", refuse)
    with pytest.raises(AirflowException, match="is not moved back"):
        raise_stage()
    assert ledger.stages.write_until(KEY) is not None


def test_while_the_commander_is_asked_no_stage_is_raised(plane: ControlPlane, ledger: Ledger) -> None:
    ledger.reviews.open(KEY, 1, utc_now() + HOUR, OnTimeout.ROLLBACK, utc_now())
    with pytest.raises(TaskDeferred):
        raise_stage()
    assert plane.accepted == []
    ledger.decisions.add(KEY, 1, "Go on", "casey", "a known spike", utc_now(), timed_out=False)
    raise_stage()
    assert plane.shares[SPEC.release] == 0.5
