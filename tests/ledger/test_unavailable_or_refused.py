"""A ledger that is unavailable and a ledger that refuses are two errors of one family."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import text

from rollback_budget.exceptions import (
    LedgerError,
    LedgerRuleError,
    LedgerUnavailableError,
    TransitionNotAllowedError,
    UnknownDebtError,
    UnknownRolloutError,
)
from rollback_budget.ledger.debt_views import CaseEntry, CaseState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision
from tests.debt.factories import make_debt, make_proof
from tests.support.network import wait_until
from tests.support.rollouts import KEY, NOON, make_breach, make_spec

pytestmark = pytest.mark.database


def test_the_two_kinds_have_one_root_and_are_no_kind_of_each_other() -> None:
    for kind in (LedgerRuleError, UnknownRolloutError, UnknownDebtError, TransitionNotAllowedError):
        assert issubclass(kind, LedgerError)
        assert not issubclass(kind, LedgerUnavailableError)
    assert not issubclass(LedgerUnavailableError, LedgerRuleError)


def test_what_is_not_in_the_ledger_is_named_and_is_no_outage(ledger: Ledger) -> None:
    with pytest.raises(UnknownRolloutError):
        ledger.breaches.log(KEY, [make_breach()], NOON)
    with pytest.raises(UnknownDebtError):
        ledger.proofs.add(make_proof(make_debt()))


def test_a_row_that_its_tables_refuse_is_no_outage(ledger: Ledger) -> None:
    with pytest.raises(LedgerRuleError, match="refused"):
        ledger.cases.index([CaseEntry("of no debt", "c1", CaseState.DRAFT, NOON)])
    with pytest.raises(LedgerRuleError, match="no time zone"):
        ledger.rollouts.open(KEY, make_spec(), datetime(2026, 3, 1))  # noqa: DTZ001


def test_a_ledger_that_another_process_locks_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollback_budget.ledger.database._LOCK_TIMEOUT_S", 0.05)
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="Check its disk, its rights and its locks"):
            ledger.rollouts.open(KEY, make_spec(), NOON)


def test_a_process_that_hangs_in_mid_transaction_does_not_keep_the_others_waiting(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollback_budget.ledger.database._LOCK_TIMEOUT_S", 0.05)
    ledger = Ledger(postgres_url)
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(), NOON)
    hangs, may_end = Event(), Event()

    def hang() -> None:
        with ledger.database.one_transaction():
            ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "one incident", NOON)
            hangs.set()
            may_end.wait()

    other = Thread(target=hang)
    other.start()
    try:
        assert hangs.wait(30)
        with pytest.raises(LedgerUnavailableError, match="locks"):
            ledger.final_decisions.take(KEY, FinalDecision.PROMOTED, "casey", "it is fine", NOON)
    finally:
        may_end.set()
        other.join()


def test_the_server_ends_a_transaction_that_is_left_open(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollback_budget.ledger.database._IDLE_TIMEOUT_S", 0.05)
    ledger = Ledger(postgres_url)
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(), NOON)
    other = Ledger(postgres_url)

    def are_locks_left() -> bool:
        with other.database.read() as session:
            query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            return bool(session.execute(text(query)).scalar_one())

    def hang() -> None:
        with ledger.database.one_transaction():
            ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "one incident", NOON)
            wait_until(lambda: not are_locks_left(), what="the server to end the transaction")
            ledger.rollouts.get(KEY)

    with pytest.raises(LedgerUnavailableError):
        hang()


def test_a_ledger_whose_tables_are_gone_is_unavailable(ledger: Ledger) -> None:
    with ledger.database.connect() as connection:
        connection.exec_driver_sql("DROP TABLE stages")
    ledger.rollouts.open(KEY, make_spec(), NOON)
    with pytest.raises(LedgerUnavailableError, match="refused"):
        ledger.stages.of(KEY)
