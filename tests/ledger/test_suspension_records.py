from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.ledger.history import history_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, LoggedSuspension, Scope
from tests.support.rollouts import KEY, NOON, make_spec, race

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)
HOLD = Suspension(
    budget="latency", since=NOON, until=NOON + HOUR, by="alice", reason="load test'; --\n{{ x }}"
)
THIS = Scope(dag_id=KEY.dag_id, run_id=KEY.run_id)


def test_a_suspension_comes_back_as_it_was_recorded_and_a_retry_is_the_same_one(ledger: Ledger) -> None:
    first = ledger.suspensions.add(THIS, HOLD, once="review 1")
    late = HOLD.model_copy(update={"since": NOON + HOUR / 2})
    assert race(4, lambda _: ledger.suspensions.add(THIS, late, once="review 1")) == [first] * 4
    assert first.suspension == HOLD
    assert ledger.suspensions.add(THIS, HOLD).id != first.id
    assert [one.scope for one in ledger.suspensions.ending_after()] == [THIS, THIS]


def test_the_first_early_end_holds_and_one_that_is_over_stays_as_it_is(ledger: Ledger) -> None:
    hold = ledger.suspensions.add(THIS, HOLD)
    ended = ledger.suspensions.end(hold.id, "bob", "done", NOON + HOUR / 4)
    assert (ended.suspension.until, ended.planned_until) == (NOON + HOUR / 4, NOON + HOUR)
    assert ledger.suspensions.end(hold.id, "carol", "again", NOON + HOUR / 3) == ended
    over = ledger.suspensions.add(THIS, HOLD)
    assert ledger.suspensions.end(over.id, "bob", "late", NOON + 2 * HOUR) == over
    with pytest.raises(LedgerRuleError, match="no suspension 99"):
        ledger.suspensions.end(99, "bob", "", NOON)


def test_only_what_ends_later_is_read(ledger: Ledger) -> None:
    hold = ledger.suspensions.add(THIS, HOLD)
    ended = ledger.suspensions.end(ledger.suspensions.add(THIS, HOLD).id, "bob", "done", NOON + HOUR / 4)
    assert ledger.suspensions.ending_after(after=NOON) == [hold, ended]
    assert ledger.suspensions.ending_after(after=NOON + HOUR / 4) == [hold]
    assert ledger.suspensions.ending_after(after=NOON + HOUR) == []
    assert (hold.is_active(NOON), hold.is_active(NOON + HOUR)) == (True, False)


@pytest.mark.parametrize(
    ("scope", "includes"),
    [
        (THIS, True),
        (Scope(dag_id=KEY.dag_id), True),
        (Scope(name="model-v42"), True),
        (Scope(name="support-bot"), True),
        (Scope(dag_id=KEY.dag_id, run_id="another"), False),
        (Scope(dag_id="another"), False),
        (Scope(name="model-v41"), False),
        (Scope(), False),
    ],
)
def test_a_suspension_names_the_rollouts_in_its_scope(ledger: Ledger, scope: Scope, includes: bool) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON - HOUR)
    hold = ledger.suspensions.add(scope, HOLD)
    assert ledger.suspensions.of(KEY) == ([hold] if includes else [])
    assert history_of(ledger, KEY) == ([hold] if includes else [])
    assert scope.includes(None, make_spec()) is (scope.dag_id is None and includes)


def test_a_rollouts_story_has_the_suspensions_of_its_own_time(ledger: Ledger) -> None:
    ledger.suspensions.add(THIS, HOLD)
    ledger.suspensions.add(THIS, HOLD.model_copy(update={"since": NOON + 5 * HOUR, "until": NOON + 6 * HOUR}))
    ledger.rollouts.open(KEY, make_spec(), NOON - HOUR)
    ledger.final_decisions.take(KEY, FinalDecision.PROMOTED, "the rule", "kept", NOON + 4 * HOUR)
    kinds = [type(event).__name__ for event in history_of(ledger, KEY)]
    assert kinds == ["LoggedSuspension", "Final"]
    later = RolloutKey(KEY.dag_id, "manual__later")
    ledger.rollouts.open(later, make_spec(), NOON + 3 * HOUR)
    assert ledger.suspensions.of(later) == []


def test_an_active_suspension_knows_its_words(ledger: Ledger) -> None:
    hold: LoggedSuspension = ledger.suspensions.add(Scope(name="model-v42"), HOLD)
    assert str(hold.scope) == "every rollout of model-v42"
    assert str(replace(hold, scope=THIS).scope) == str(KEY)
