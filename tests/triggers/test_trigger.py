"""The trigger, run as the triggerer runs it, over recorded series."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.serde import deserialize, serialize
from airflow.triggers.base import TriggerEvent

from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.model.source import RecordedSource
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import WatchPlan
from tests.engine.builders import rollout

pytestmark = pytest.mark.airflow

LONG_AGO = datetime(2026, 3, 1, 12, tzinfo=UTC)


def recorded(folder: Path, bad_from: int, minutes: int = 90) -> WatchPlan:
    """A rollout long over, whose p95 is a third too high from a minute on."""
    lines = ["time,metric,version,value,n"]
    for minute in range(1, minutes + 1):
        time = (LONG_AGO + timedelta(minutes=minute)).isoformat()
        lines.append(f"{time},p95,model-v42,{2.1 if minute >= bad_from else 1.6},200")
        lines.append(f"{time},p95,model-v41,1.6,200")
    path = folder / "series.csv"
    path.write_text("\n".join(lines))
    spec = rollout(minutes=minutes, source=RecordedSource(path=str(path)))
    return WatchPlan(spec=spec, window_start=LONG_AGO, window_end=LONG_AGO + spec.window)


def events_of(trigger: RollbackBudgetTrigger) -> list[TriggerEvent]:
    async def run() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    return asyncio.run(run())


@pytest.mark.parametrize(("bad_from", "kind"), [(20, VerdictKind.BREACH), (1000, VerdictKind.HEALTHY)])
def test_a_verdict_is_one_event_that_survives_airflows_serialization(
    tmp_path: Path, bad_from: int, kind: VerdictKind
) -> None:
    plan = recorded(tmp_path, bad_from)
    trigger = RollbackBudgetTrigger(plan=plan.model_dump_json(), deferred_at=LONG_AGO.isoformat())
    [event] = events_of(trigger)
    evaluation = Evaluation.model_validate(deserialize(serialize(event.payload))["evaluation"])
    assert evaluation.verdict is kind
    if kind is VerdictKind.BREACH:
        assert evaluation.breaches[0].breached_at == LONG_AGO + timedelta(minutes=50)


def test_a_persisted_trigger_is_rebuilt_from_its_path_and_arguments(tmp_path: Path) -> None:
    trigger = RollbackBudgetTrigger(
        plan=recorded(tmp_path, 20).model_dump_json(), deferred_at=LONG_AGO.isoformat()
    )
    path, arguments = trigger.serialize()
    assert path == "rollback_budget.workflow.trigger.RollbackBudgetTrigger"
    stored: dict[str, Any] = {**deserialize(serialize(arguments)), "argument_of_an_older_version": 1}
    assert events_of(RollbackBudgetTrigger(**stored))[0].payload == events_of(trigger)[0].payload
