"""Labels: how past rollouts really went, append-only, the latest one holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rollback_budget.exceptions import LedgerRuleError, UnknownRolloutError
from rollback_budget.ledger.history import history_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, LoggedLabel
from rollback_budget.model.label import Label
from tests.support.rollouts import KEY, NOON, make_spec

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)
BAD = LoggedLabel(Label.BAD, NOON + HOUR, "alice", "answers in another language'; --", NOON + 48 * HOUR)


def ship(ledger: Ledger, final: FinalDecision | None = None, at: timedelta = 2 * HOUR) -> None:
    """Ship a rollout of 24 h at noon, and decide it."""
    ledger.rollouts.open(KEY, make_spec(), NOON - HOUR)
    ledger.rollouts.record_shipped(KEY, NOON, NOON + 24 * HOUR)
    if final is not None:
        ledger.final_decisions.take(KEY, final, "the rule", "a breach", NOON + at)


def test_a_later_label_replaces_an_earlier_one_which_stays_as_history(ledger: Ledger) -> None:
    ship(ledger, FinalDecision.ROLLED_BACK)
    # The clock of who says it later may be behind: what was recorded later holds.
    good = LoggedLabel(Label.GOOD, None, "bob", "", NOON + 47 * HOUR)
    ledger.labels.add(KEY, BAD)
    ledger.labels.add(KEY, good)
    assert ledger.labels.of(KEY) == [BAD, good]
    assert [event for event in history_of(ledger, KEY) if isinstance(event, LoggedLabel)] == [good, BAD]


def test_a_rollout_that_is_watched_or_never_shipped_has_no_label_yet(ledger: Ledger) -> None:
    with pytest.raises(UnknownRolloutError):
        ledger.labels.add(KEY, BAD)
    ledger.rollouts.open(KEY, make_spec(), NOON - HOUR)
    with pytest.raises(LedgerRuleError, match="has not shipped"):
        ledger.labels.add(KEY, BAD)
    ship(ledger)
    with pytest.raises(LedgerRuleError, match="is watched until 2026-03-02 12:00:00 UTC"):
        ledger.labels.add(KEY, replace(BAD, at=NOON + 23 * HOUR))
    # Nobody decided it, and its window is over: a run that was stopped by hand.
    ledger.labels.add(KEY, BAD)
    assert ledger.labels.of(KEY) == [BAD]


def test_a_good_rollout_has_no_onset(ledger: Ledger) -> None:
    ship(ledger, FinalDecision.PROMOTED)
    with pytest.raises(LedgerRuleError, match="a good rollout has no onset"):
        ledger.labels.add(KEY, replace(BAD, label=Label.GOOD))
    assert ledger.labels.of(KEY) == []


@pytest.mark.parametrize(
    ("final", "last"),
    [(FinalDecision.ROLLED_BACK, 2 * HOUR), (FinalDecision.PROMOTED, 24 * HOUR), (None, 24 * HOUR)],
)
def test_an_onset_lies_between_shipping_and_the_end(
    ledger: Ledger, final: FinalDecision | None, last: timedelta
) -> None:
    ship(ledger, final)
    second = timedelta(seconds=1)
    for onset in (NOON, NOON + last):
        ledger.labels.add(KEY, replace(BAD, onset=onset))
    for onset in (NOON - second, NOON + last + second):
        with pytest.raises(LedgerRuleError, match="is outside of the rollout of model-v42, which went from"):
            ledger.labels.add(KEY, replace(BAD, onset=onset))


def test_labels_are_of_one_run_alone(ledger: Ledger) -> None:
    ship(ledger, FinalDecision.ROLLED_BACK)
    other = RolloutKey(KEY.dag_id, "another")
    ledger.rollouts.open(other, make_spec(), NOON)
    ledger.labels.add(KEY, BAD)
    assert ledger.labels.of(other) == []
