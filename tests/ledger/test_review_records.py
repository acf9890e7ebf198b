from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.ledger.history import history_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.notifications import LOST_AFTER
from rollback_budget.ledger.views import Review, SentNotification
from rollback_budget.model.decision import OnTimeout
from tests.support.rollouts import KEY, NOON, make_spec, race

pytestmark = pytest.mark.database

SECOND = timedelta(seconds=1)


def test_a_rounds_review_is_opened_once_with_its_first_deadline(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    for late in (0, 5):
        at = NOON + late * SECOND
        ledger.reviews.open(KEY, 1, at + 900 * SECOND, OnTimeout.ROLLBACK, at)
    review = Review(1, NOON, NOON + 900 * SECOND, OnTimeout.ROLLBACK)
    assert ledger.reviews.of(KEY) == history_of(ledger, KEY) == [review]


def test_one_of_many_senders_may_send_and_after_it_none(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    claims = race(4, lambda _: ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON))
    assert sorted(claims) == [False, False, False, True]
    ledger.notifications.settle(KEY, "breach 1", "1 slack", NOON + SECOND)
    assert not ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON + 2 * LOST_AFTER)
    assert ledger.notifications.claim(KEY, "breach 1", "2 email", NOON)
    assert ledger.notifications.of(KEY)[0] == SentNotification("breach 1", "1 slack", NOON, NOON + SECOND)


def test_a_message_that_failed_or_whose_sender_was_lost_is_sent_again(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    assert ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON)
    assert not ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON + LOST_AFTER - SECOND)
    assert ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON + LOST_AFTER)
    ledger.notifications.settle(KEY, "breach 1", "1 slack", NOON + LOST_AFTER, error="no route to host")
    assert ledger.notifications.of(KEY)[0].error == "no route to host"
    assert ledger.notifications.claim(KEY, "breach 1", "1 slack", NOON + LOST_AFTER + SECOND)
