from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from rollback_budget.debt.log import log_debts
from rollback_budget.debt.state_machine import filed
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.debt_models import DebtRow
from rollback_budget.ledger.debt_views import DebtEventKind, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Severity
from tests.support.rollouts import KEY, NOON, log_breach, make_breach, race

pytestmark = pytest.mark.database

DAY = timedelta(days=1)


def pay_every_debt(ledger: Ledger, at: datetime) -> None:
    with ledger.database.write() as session:
        session.execute(update(DebtRow).values(state=DebtState.PAID.value, paid_at=at))


def test_racing_tasks_make_one_debt_and_count_every_breach_once(ledger: Ledger) -> None:
    fingerprints = [log_breach(ledger, make_breach(NOON + timedelta(minutes=m))) for m in range(5)]

    def run(number: int) -> list[DebtEventKind]:
        own, first = Ledger(ledger.url), number % 5
        in_own_order = fingerprints[first:] + fingerprints[:first]
        return [change.kind for one in in_own_order for change in log_debts(own, [one], NOON)]

    kinds = Counter(kind for kinds in race(8, run) for kind in kinds)
    assert kinds == {DebtEventKind.DETECTED: 1, DebtEventKind.OCCURRENCE: 4}
    (debt,) = ledger.debts.every()
    assert (debt.occurrences, debt.state) == (5, DebtState.DETECTED)
    assert (debt.detected_at, debt.last_breach_at) == (NOON, NOON + timedelta(minutes=4))
    assert log_debts(ledger, fingerprints, NOON) == []


def test_the_sweep_counts_what_no_event_announced(ledger: Ledger) -> None:
    announced = log_breach(ledger, make_breach(NOON))
    log_breach(ledger, make_breach(NOON + DAY))
    assert [change.breach_fingerprint for change in log_debts(ledger, [announced, "unheard of"], NOON)] == [
        announced
    ]
    assert [change.kind for change in log_debts(ledger, None, NOON)] == [DebtEventKind.OCCURRENCE]
    assert log_debts(ledger, None, NOON) == []


def test_a_debt_is_of_a_service_and_outlives_releases(ledger: Ledger) -> None:
    log_breach(ledger, make_breach(NOON))
    log_breach(ledger, make_breach(NOON), RolloutKey("rollout_model_v43", "r"), release="model-v43")
    log_breach(ledger, make_breach(NOON), RolloutKey("rollout_other", "r"), service="other-bot")
    log_breach(ledger, make_breach(NOON, slice="german", budget="latency.p95_delta_pct:german"))
    log_debts(ledger, None, NOON)
    assert {(debt.service, debt.slice): debt.occurrences for debt in ledger.debts.every()} == {
        ("other-bot", None): 1,
        ("support-bot", None): 2,
        ("support-bot", "german"): 1,
    }


@pytest.mark.parametrize(
    ("severity", "days"), [(Severity.CRITICAL, 3), (Severity.MAJOR, 10), (Severity.MINOR, 30)]
)
def test_a_debt_is_due_by_its_severity_from_the_breach(ledger: Ledger, severity: Severity, days: int) -> None:
    log_breach(ledger, make_breach(NOON, severity=severity))
    (change,) = log_debts(ledger, None, NOON + 20 * DAY)
    assert change.debt.due_at == NOON + days * DAY


def test_a_graver_occurrence_brings_the_due_date_forward_and_a_lighter_one_does_not(ledger: Ledger) -> None:
    for minute, severity in enumerate((Severity.MAJOR, Severity.CRITICAL, Severity.MINOR)):
        log_breach(ledger, make_breach(NOON + timedelta(minutes=minute), severity=severity))
    debt = log_debts(ledger, None, NOON)[-1].debt
    assert (debt.severity, debt.due_at) == (Severity.CRITICAL, NOON + timedelta(minutes=1) + 3 * DAY)
    assert ledger.debts.get(debt.fingerprint) == debt


def test_a_paid_debt_that_recurs_within_30_days_is_reopened(ledger: Ledger) -> None:
    log_breach(ledger, make_breach(NOON))
    log_debts(ledger, None, NOON)
    pay_every_debt(ledger, NOON + DAY)
    log_breach(ledger, make_breach(NOON + 31 * DAY))
    (change,) = log_debts(ledger, None, NOON + 31 * DAY)
    assert (change.kind, change.debt.state) == (DebtEventKind.REOPENED, DebtState.REOPENED)
    assert (change.debt.occurrences, change.debt.due_at) == (2, NOON + 41 * DAY)
    assert ledger.debts.every() == [change.debt]


def test_a_paid_debt_that_recurs_later_is_owed_anew_with_a_ticket_of_its_own(ledger: Ledger) -> None:
    log_breach(ledger, make_breach(NOON))
    (first,) = log_debts(ledger, None, NOON)
    ledger.tickets.claim(first.debt.fingerprint, "test", NOON, lease=DAY, settle=DAY)
    ledger.tickets.record_filed(first.debt.fingerprint, "jira", "RB-1", None, NOON, occurrences=1, rule=filed)
    pay_every_debt(ledger, NOON + DAY)
    log_breach(ledger, make_breach(NOON + 32 * DAY))
    (change,) = log_debts(ledger, None, NOON + 32 * DAY)
    assert (change.kind, change.debt.occurrences) == (DebtEventKind.DETECTED, 1)
    assert change.debt.label != first.debt.label
    assert ledger.debts.unfiled() == [change.debt]


def test_a_breach_from_before_the_payment_does_not_reopen(ledger: Ledger) -> None:
    log_breach(ledger, make_breach(NOON))
    log_debts(ledger, None, NOON)
    pay_every_debt(ledger, NOON + 2 * DAY)
    log_breach(ledger, make_breach(NOON + DAY))
    (change,) = log_debts(ledger, None, NOON + 3 * DAY)
    assert (change.kind, change.debt.state) == (DebtEventKind.OCCURRENCE, DebtState.PAID)


def test_an_unreachable_ledger_loses_nothing(ledger: Ledger, free_port: int) -> None:
    fingerprint = log_breach(ledger, make_breach(NOON))
    with pytest.raises(LedgerUnavailableError):
        log_debts(Ledger(f"postgresql://nobody@127.0.0.1:{free_port}/x"), [fingerprint], NOON)
    assert [change.breach_fingerprint for change in log_debts(ledger, None, NOON)] == [fingerprint]
    assert [one.key for one in ledger.breaches.of_debt(ledger.debts.every()[0].fingerprint)] == [KEY]
