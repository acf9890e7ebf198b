"""Debts that move in a real ledger, with many calls at once."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from sqlalchemy import text

from rollback_budget.debt import state_machine
from rollback_budget.debt.changes import advance_state, mark_duplicate, waive
from rollback_budget.debt.lifecycle import bypass_fingerprint, bypassed
from rollback_budget.debt.log import log_debts
from rollback_budget.debt.state_machine import filed
from rollback_budget.exceptions import TransitionNotAllowedError, UnknownDebtError
from rollback_budget.ledger.debt_rows import lock_debt
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, Waiver
from rollback_budget.ledger.ledger import Ledger
from tests.debt.factories import DAY, make_proof, owe
from tests.support.network import wait_until
from tests.support.rollouts import NOON, log_breach, make_breach, race

pytestmark = pytest.mark.database

STEPS = state_machine.STEPS[1:]


def kinds(ledger: Ledger, debt: Debt) -> list[DebtEventKind]:
    return [event.kind for event in ledger.debt_events.of(debt.fingerprint)]


def pay(ledger: Ledger, debt: Debt, **proof: object) -> Debt:
    ledger.proofs.add(make_proof(debt, **proof))
    at = NOON + DAY
    advance_state(ledger.debts, debt.fingerprint, DebtState.PROVEN, by="alice", at=at)
    return advance_state(ledger.debts, debt.fingerprint, DebtState.PAID, by="alice", at=at)


def test_racing_steps_are_recorded_once_each_and_only_forward(ledger: Ledger) -> None:
    debt = owe(ledger)
    ledger.proofs.add(make_proof(debt))

    def run(number: int) -> None:
        own, wishes = Ledger(ledger.url), [*STEPS, *STEPS]
        random.Random(number).shuffle(wishes)
        for to in wishes:
            with suppress(TransitionNotAllowedError):
                advance_state(own.debts, debt.fingerprint, to, by=f"task {number}", at=NOON)

    race(6, run)
    after = ledger.debts.get(debt.fingerprint)
    assert after is not None
    assert (after.state, after.paid_at) == (DebtState.PAID, NOON)
    story = kinds(ledger, debt)
    assert max(Counter(story).values()) == 1
    ranks = [state_machine.STEPS.index(DebtState(kind.value)) for kind in story]
    assert ranks == sorted(ranks)
    assert story[-2:] == [DebtEventKind.PROVEN, DebtEventKind.PAID]


def test_nothing_is_paid_without_an_accepted_proof(ledger: Ledger) -> None:
    debt = owe(ledger)
    for proof in (None, make_proof(debt, accepted=False)):
        if proof is not None:
            ledger.proofs.add(proof)
        for to in (DebtState.PROVEN, DebtState.PAID):
            with pytest.raises(TransitionNotAllowedError, match="has no accepted red-green proof"):
                advance_state(ledger.debts, debt.fingerprint, to, by="alice", at=NOON)
    assert kinds(ledger, debt) == [DebtEventKind.DETECTED]


def test_the_same_proof_is_kept_once_and_a_refused_one_stays_on_record(ledger: Ledger) -> None:
    debt = owe(ledger)
    refused = make_proof(debt, accepted=False, digest="e" * 64)
    assert ledger.proofs.add(refused)
    accepted = [Ledger(ledger.url).proofs.add for _ in range(4)]
    assert sorted(race(4, lambda number: accepted[number](make_proof(debt)))) == [False] * 3 + [True]
    assert ledger.proofs.of(debt.fingerprint) == [refused, make_proof(debt)]


def test_an_old_proof_does_not_pay_what_came_back(ledger: Ledger) -> None:
    debt = owe(ledger)
    pay(ledger, debt)
    log_breach(ledger, make_breach(NOON + 5 * DAY))
    log_debts(ledger, None, NOON + 5 * DAY)
    ledger.proofs.add(make_proof(debt, at=NOON + 6 * DAY))
    with pytest.raises(TransitionNotAllowedError, match="no accepted red-green proof since it was reopened"):
        advance_state(ledger.debts, debt.fingerprint, DebtState.PROVEN, by="alice", at=NOON + 6 * DAY)
    assert pay(ledger, debt, digest="f" * 64, at=NOON + 6 * DAY).state is DebtState.PAID
    assert kinds(ledger, debt).count(DebtEventKind.PAID) == 2


def test_filing_late_does_not_take_a_drafted_debt_back(ledger: Ledger) -> None:
    debt = owe(ledger)
    advance_state(ledger.debts, debt.fingerprint, DebtState.DRAFTED, by="cases", at=NOON)
    assert [one.fingerprint for one in ledger.debts.unfiled()] == [debt.fingerprint]
    ledger.tickets.claim(debt.fingerprint, "test", NOON, lease=DAY, settle=DAY)
    ledger.tickets.record_filed(debt.fingerprint, "jira", "RB-1", None, NOON, occurrences=1, rule=filed)
    after = ledger.debts.get(debt.fingerprint)
    assert after is not None
    assert after.state is DebtState.DRAFTED
    assert kinds(ledger, debt)[-1] is DebtEventKind.FILED


def test_a_waiver_is_recorded_once_and_a_newer_one_takes_its_place(ledger: Ledger) -> None:
    debt = owe(ledger)
    waiver = Waiver("alice", "fix is in review", NOON + DAY)
    race(4, lambda _: waive(Ledger(ledger.url).debts, debt.fingerprint, waiver, NOON))
    waive(ledger.debts, debt.fingerprint, Waiver("bob", "still in review", NOON + 2 * DAY), NOON)
    after = ledger.debts.get(debt.fingerprint)
    assert after is not None
    assert after.waiver == Waiver("bob", "still in review", NOON + 2 * DAY)
    reported = [
        event for event in ledger.debt_events.of(debt.fingerprint) if event.kind is DebtEventKind.WAIVED
    ]
    assert [(event.by, event.detail) for event in reported] == [
        ("alice", "until 2026-03-02 12:00 UTC: fix is in review"),
        ("bob", "until 2026-03-03 12:00 UTC: still in review"),
    ]


def test_a_duplicate_is_paid_with_its_original_once(ledger: Ledger) -> None:
    original, second, third = owe(ledger), owe(ledger, "p99"), owe(ledger, "p50")
    mark = partial(mark_duplicate, ledger.debts, by="alice", at=NOON)
    mark(second.fingerprint, original.fingerprint, detail="the tokenizer")
    mark(third.fingerprint, second.fingerprint)
    mark(third.fingerprint, second.fingerprint)
    pay(ledger, original)
    log_breach(ledger, make_breach(NOON + 5 * DAY))
    log_debts(ledger, None, NOON + 5 * DAY)
    pay(ledger, original, digest="f" * 64, at=NOON + 6 * DAY)
    for debt in (second, third):
        after = ledger.debts.get(debt.fingerprint)
        assert after is not None
        assert (after.state, after.paid_at) == (DebtState.DUPLICATE, NOON + DAY)
        assert kinds(ledger, debt) == [DebtEventKind.DETECTED, DebtEventKind.DUPLICATE, DebtEventKind.PAID]
    assert ledger.debt_events.of(second.fingerprint)[1].detail == f"of {original.fingerprint}: the tokenizer"


def waiting(ledger: Ledger) -> int:
    """Return how many connections to a PostgreSQL ledger wait for a lock."""
    lock = "datname = current_database() AND wait_event_type = 'Lock'"
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {lock}"
    with ledger.database.read() as session:
        return session.execute(text(query)).scalar_one()


def test_racing_marks_never_make_a_circle_of_duplicates(ledger: Ledger) -> None:
    ring = [owe(ledger, metric).fingerprint for metric in ("a", "b", "c", "d")]

    def mark(number: int) -> str | None:
        try:
            mark_duplicate(
                Ledger(ledger.url).debts, ring[number], ring[(number + 1) % len(ring)], by="alice", at=NOON
            )
        except TransitionNotAllowedError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(len(ring)) as pool:
        with ledger.database.write() as session:
            for fingerprint in ring:
                lock_debt(session, fingerprint)
            asked = [pool.submit(mark, number) for number in range(len(ring))]
            # They get as far as they can, and go on together.
            if session.connection().dialect.name == "postgresql":
                wait_until(lambda: waiting(ledger) == len(ring))
        answers = [one.result() for one in asked]
    refused = [error for error in answers if error is not None]
    assert len(refused) == 1
    assert "a circle of duplicates is never paid" in refused[0]
    assert len([debt for debt in ledger.debts.every() if debt.is_owed]) == 1


def test_a_launch_past_the_gate_is_owed_once_however_often_it_is_reported(ledger: Ledger) -> None:
    fingerprint = bypass_fingerprint("support-bot", "v43")

    def become(debt: Debt | None) -> tuple[Debt, DebtEvent]:
        return bypassed(debt, "support-bot", "v43", by="bob", reason="outage", at=NOON)

    race(4, lambda _: Ledger(ledger.url).debts.owe(fingerprint, become))
    (debt,) = ledger.debts.every()
    assert (debt.fingerprint, debt.occurrences) == (fingerprint, 1)
    assert kinds(ledger, debt) == [DebtEventKind.BYPASSED]


def test_a_line_is_added_to_a_story_once(ledger: Ledger) -> None:
    debt = owe(ledger)
    event = DebtEvent(
        debt.fingerprint, 1, DebtEventKind.ESCALATED, NOON, by="ageing", detail="due: it is due"
    )
    assert sorted(race(4, lambda _: Ledger(ledger.url).debt_events.add(event))) == [False] * 3 + [True]
    assert ledger.debt_events.every() == ledger.debt_events.of(debt.fingerprint)
    assert ledger.debt_events.every()[-1] == event
    with pytest.raises(UnknownDebtError, match="there is no debt 'unheard of'"):
        advance_state(ledger.debts, "unheard of", DebtState.FILED, by="alice", at=NOON)
