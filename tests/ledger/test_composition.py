"""The ledger is composed of repositories: each works alone, and each can be replaced alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event

from rollback_budget.debt.changes import advance_state, waive
from rollback_budget.debt.owners import owners_of
from rollback_budget.exceptions import TransitionNotAllowedError, UnknownRolloutError
from rollback_budget.ledger.database import Database, Repository
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtState, Waiver
from rollback_budget.ledger.debts import DebtRule, LockedDebt
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollouts import Rollouts
from rollback_budget.ledger.stages import Stages
from rollback_budget.ledger.views import Rollout
from tests.debt.factories import DAY, make_debt, make_proof
from tests.support.rollouts import KEY, NOON, make_spec


class KnownRollouts:
    """Rollouts in memory, in the place of the ledger's."""

    def newest_of(self, service: str, at: datetime) -> Rollout | None:
        return Rollout(KEY, make_spec(owner=f"owner of {service}"), at, None, None, None)


class OneDebt:
    """A debt in memory, in the place of the ledger's debts."""

    def __init__(self, debt: Debt, **locked: Any) -> None:
        self.debt = debt
        self.locked = {"events": [], "proofs": [], "debts": {}, **locked}

    def change(
        self, _fingerprint: str, rule: DebtRule, *, with_duplicates: bool = False
    ) -> tuple[Debt, list[DebtEvent]]:
        updates = rule(LockedDebt(self.debt, **self.locked))
        for update in updates:
            self.debt = update.debt
        return self.debt, [event for update in updates for event in update.events]


@pytest.mark.pure
def test_one_repository_of_a_ledger_is_replaced_without_the_others() -> None:
    ledger = Ledger("sqlite:////nowhere/ledger.db")
    ledger.rollouts = KnownRollouts()  # type: ignore[assignment]
    assert owners_of(ledger, [make_debt()], NOON) == {"support-bot": "owner of support-bot"}


@pytest.mark.pure
def test_the_rules_of_a_debt_are_followed_without_a_database() -> None:
    debts: Any = OneDebt(make_debt(state=DebtState.APPROVED))
    with pytest.raises(TransitionNotAllowedError, match="no accepted red-green proof"):
        advance_state(debts, "d", DebtState.PROVEN, by="alice", at=NOON)
    waiver = Waiver("alice", "fix in review", NOON + DAY)
    assert waive(debts, "d", waiver, NOON).waiver == waiver
    debts.locked["proofs"] = [make_proof(debts.debt)]
    assert advance_state(debts, "d", DebtState.PROVEN, by="alice", at=NOON).state is DebtState.PROVEN


@pytest.mark.database
def test_each_repository_is_made_from_the_database_alone_and_sees_what_the_others_store(
    ledger: Ledger,
) -> None:
    database = Database(ledger.url)
    Rollouts(database).open(KEY, make_spec(), NOON)
    stage = Stages(database).record(KEY, 1, 0.05, NOON)
    assert ledger.stages.of(KEY) == [stage]


@pytest.mark.database
def test_calls_inside_one_transaction_share_a_connection_and_hold_together_or_not_at_all(
    ledger: Ledger,
) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    connections = []

    def note(*_args: object) -> None:
        connections.append(1)

    event.listen(Engine, "connect", note)
    try:
        with ledger.database.one_transaction():
            ledger.stages.record(KEY, 1, 0.05, NOON)
            assert [stage.stage for stage in ledger.stages.of(KEY)] == [1]
        assert len(connections) == 1
    finally:
        event.remove(Engine, "connect", note)

    def fail_in_the_middle() -> None:
        with ledger.database.one_transaction():
            ledger.stages.record(KEY, 2, 0.25, NOON)
            ledger.stages.record(RolloutKey("no such rollout", "run"), 1, 0.05, NOON)

    with pytest.raises(UnknownRolloutError):
        fail_in_the_middle()
    ledger.stages.record(KEY, 3, 0.5, NOON)
    assert [stage.stage for stage in ledger.stages.of(KEY)] == [1, 3]


@pytest.mark.database
def test_one_transaction_is_its_own_threads_alone(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    with ledger.database.one_transaction(), ThreadPoolExecutor(1) as other:
        assert ledger.final_decisions.of(KEY) is None
        assert other.submit(ledger.final_decisions.of, KEY).result() is None


@pytest.mark.pure
def test_the_ledger_itself_has_no_method_of_a_repository() -> None:
    ledger = Ledger("sqlite:////nowhere/ledger.db")
    repositories: Sequence[str] = [
        name for name, value in vars(ledger).items() if isinstance(value, Repository)
    ]
    assert len(repositories) >= 15
    others = {name for name in dir(ledger) if not name.startswith("_")} - set(repositories)
    assert others == {"database", "url", "place", "migrate", "check"}
