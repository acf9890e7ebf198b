"""One rollout of a service at a time, by the ledger; and the stages that a rollout went through."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rollback_budget.common.concurrency_check import holders_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, RollbackRecord, StageRecord
from rollback_budget.targets.apply import Outcome
from tests.support.rollouts import KEY, NOON, make_spec, race

pytestmark = [pytest.mark.database, pytest.mark.airflow]

OTHER = RolloutKey("rollout_model_v43", "manual__2026-03-02")
SPEC = make_spec()


def claim(ledger: Ledger, key: RolloutKey, **spec: Any) -> list[RolloutKey]:
    return [other.key for other in ledger.rollouts.claim_service(key, make_spec(**spec), NOON)]


def test_a_service_is_held_until_its_rollout_is_promoted(ledger: Ledger) -> None:
    assert claim(ledger, KEY) == []
    assert claim(ledger, KEY) == []
    assert claim(ledger, OTHER) == [KEY]
    assert ledger.rollouts.get(OTHER) is None
    assert claim(ledger, OTHER, service="another") == []
    ledger.final_decisions.take(KEY, FinalDecision.PROMOTED, "the rule", "kept", NOON)
    assert claim(ledger, RolloutKey("third", "r")) == []


def test_a_rollback_that_is_not_proven_holds_its_service(ledger: Ledger) -> None:
    claim(ledger, KEY)
    ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "p95", NOON)
    assert claim(ledger, OTHER) == [KEY]
    record = RollbackRecord("k", Outcome.ACCEPTED_NOT_EFFECTIVE, NOON, None)
    ledger.rollbacks.record(KEY, record)
    assert claim(ledger, OTHER) == [KEY]
    ledger.rollbacks.record(KEY, RollbackRecord("k", Outcome.EFFECTIVE, NOON, NOON))
    assert claim(ledger, OTHER) == []


def test_of_several_at_once_one_gets_the_service(ledger: Ledger) -> None:
    found = race(8, lambda number: claim(ledger, RolloutKey("dag", f"run {number}")))
    assert sorted(map(len, found)) == [0, *[1] * 7]
    assert len(ledger.rollouts.newest()) == 1


class Airflow:
    """Answers what a task asks Airflow about other runs."""

    def __init__(self, state: str | None) -> None:
        self.state = state

    def get_dr_count(self, dag_id: str, run_ids: list[str], states: list[str] | None = None) -> int:
        return int(self.state is not None and (states is None or self.state in states))


@pytest.mark.parametrize(
    ("state", "opened_ago", "holds"),
    [
        ("running", 1, True),
        ("running", 48, True),
        ("failed", 1, False),
        (None, 1, True),
        (None, 48, False),
    ],
)
def test_a_dead_run_does_not_hold_its_service_for_ever(
    ledger: Ledger, state: str | None, opened_ago: int, holds: bool
) -> None:
    """A run that is unknown here (another deployment's) holds until its window is over."""
    from rollback_budget.clock import utc_now

    ledger.rollouts.open(KEY, SPEC, utc_now() - timedelta(hours=opened_ago))
    warned: list[Any] = []
    log: Any = SimpleNamespace(warning=lambda *words: warned.append(words))
    for claims in (False, True):
        holders = holders_of(ledger, OTHER, SPEC, Airflow(state), log, claim=claims)
        assert bool(holders) is holds
    assert bool(warned) is not holds
    assert (ledger.rollouts.get(OTHER) is None) is holds


def test_a_stage_begins_once(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, SPEC, NOON)
    first = ledger.stages.record(KEY, 1, 0.05, NOON)
    assert ledger.stages.record(KEY, 1, 0.5, NOON + timedelta(hours=1)) == first
    ledger.stages.record(KEY, 2, 0.25, NOON + timedelta(hours=1))
    assert ledger.stages.of(KEY) == [
        StageRecord(1, 0.05, NOON),
        StageRecord(2, 0.25, NOON + timedelta(hours=1)),
    ]
