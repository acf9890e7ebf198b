from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.ticket_operations import LOST_AFTER, REFUSED_FOR, OperationClaim
from tests.support.debts import owe
from tests.support.rollouts import NOON, race

pytestmark = pytest.mark.database

SECOND = timedelta(seconds=1)


@pytest.fixture
def debt(ledger: Ledger) -> str:
    """The fingerprint of a debt."""
    return owe(ledger, "support-bot").fingerprint


def claim(ledger: Ledger, debt: str, after: timedelta = timedelta(0)) -> OperationClaim | None:
    return ledger.ticket_operations.claim(debt, 1, "recurred 2", NOON + after)


def test_of_racing_claims_of_an_operation_one_wins_every_time(ledger: Ledger, debt: str) -> None:
    for number in range(5):
        occasion = f"recurred {number}"
        claims = race(16, lambda _, o=occasion: Ledger(ledger.url).ticket_operations.claim(debt, 1, o, NOON))
        assert sum(one is not None for one in claims) == 1


def test_an_operation_that_is_done_is_never_claimed_again(ledger: Ledger, debt: str) -> None:
    first = claim(ledger, debt)
    assert first is not None
    ledger.ticket_operations.done(first, NOON)
    assert claim(ledger, debt, timedelta(days=365)) is None
    assert [one.done_at for one in ledger.ticket_operations.of(debt, 1)] == [NOON]
    # A later cycle of the debt has a ticket of its own.
    assert ledger.ticket_operations.claim(debt, 2, "recurred 2", NOON) is not None


def test_a_lost_operation_is_claimed_again_as_one_that_may_be_done(ledger: Ledger, debt: str) -> None:
    first = claim(ledger, debt)
    assert first is not None
    assert not first.again
    assert claim(ledger, debt, LOST_AFTER - SECOND) is None
    second = claim(ledger, debt, LOST_AFTER)
    assert second is not None
    assert second.again
    # A task that was held up comes back too late to take the claim.
    ledger.ticket_operations.release(first)
    ledger.ticket_operations.refused(first, "no")
    assert claim(ledger, debt, LOST_AFTER + SECOND) is None
    # But what it did is done.
    ledger.ticket_operations.done(first, NOON)
    assert claim(ledger, debt, 3 * LOST_AFTER) is None


def test_a_released_operation_can_be_claimed_at_once_and_a_refused_one_later(
    ledger: Ledger, debt: str
) -> None:
    first = claim(ledger, debt)
    assert first is not None
    ledger.ticket_operations.release(first)
    second = claim(ledger, debt, SECOND)
    assert second is not None
    assert not second.again
    ledger.ticket_operations.refused(second, "no right to comment")
    assert [one.error for one in ledger.ticket_operations.of(debt, 1)] == ["no right to comment"]
    assert claim(ledger, debt, LOST_AFTER + 2 * SECOND) is None
    assert claim(ledger, debt, REFUSED_FOR + SECOND) is not None
