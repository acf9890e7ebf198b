"""The way from detected to paid, as a pure function: never backwards, never paid without a proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.debt.lifecycle import bypassed, count_breach
from rollback_budget.debt.state_machine import (
    FOLLOWS,
    STEPS,
    advanced,
    as_duplicate,
    duplicates_of,
    moved,
    waived,
)
from rollback_budget.exceptions import TransitionNotAllowedError
from rollback_budget.ledger.debt_views import Debt, DebtEventKind, DebtState, Waiver
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.model.budget import Severity
from tests.debt.factories import DAY, make_debt
from tests.support.rollouts import NOON, make_breach

pytestmark = pytest.mark.pure

RANK = {**{state: rank for rank, state in enumerate(STEPS)}, DebtState.REOPENED: 0}


@given(st.lists(st.tuples(st.sampled_from(list(DebtState)), st.booleans()), max_size=12), st.booleans())
def test_a_debt_never_goes_back_and_is_never_paid_without_a_proof(
    wishes: list[tuple[DebtState, bool]], reopened: bool
) -> None:
    debt = make_debt(state=DebtState.REOPENED if reopened else DebtState.DETECTED)
    proven_once = False
    for to, proven in wishes:
        before = debt
        try:
            moved = advanced(debt, to, NOON, proven=proven)
        except TransitionNotAllowedError:
            continue
        if moved is not None:
            proven_once |= proven and to is DebtState.PROVEN
            assert RANK[moved.state] > RANK[before.state]
            debt = moved
    assert proven_once or debt.state not in (DebtState.PROVEN, DebtState.PAID)
    assert (debt.paid_at is not None) == (debt.state is DebtState.PAID)


def test_a_step_that_was_taken_is_no_error_and_changes_nothing() -> None:
    debt = make_debt(state=DebtState.APPROVED)
    assert advanced(debt, DebtState.DRAFTED, NOON, proven=False) is None
    assert advanced(debt, DebtState.APPROVED, NOON, proven=False) is None


@pytest.mark.parametrize(
    "to", [DebtState.DETECTED, DebtState.WAIVED, DebtState.DUPLICATE, DebtState.REOPENED]
)
def test_what_is_no_step_of_the_way_is_refused(to: DebtState) -> None:
    with pytest.raises(
        TransitionNotAllowedError, match="its steps are filed, drafted, approved, proven, paid"
    ):
        advanced(make_debt(), to, NOON, proven=True)


def test_a_duplicate_does_not_walk_by_itself() -> None:
    debt = make_debt(state=DebtState.DUPLICATE, duplicate_of="o" * 64)
    with pytest.raises(
        TransitionNotAllowedError, match="is a duplicate and is paid with debt oooooooooooooooo"
    ):
        advanced(debt, DebtState.DRAFTED, NOON, proven=True)


@pytest.mark.parametrize(
    ("waiver", "why"),
    [
        (Waiver("alice", "fix in review", NOON), "would be over"),
        (Waiver("alice", "fix in review", NOON + 91 * DAY), "90 days at most"),
        (Waiver(" ", "fix in review", NOON + DAY), "neither may be empty"),
        (Waiver("alice", "", NOON + DAY), "neither may be empty"),
    ],
)
def test_a_waiver_has_a_name_a_reason_and_an_end(waiver: Waiver, why: str) -> None:
    with pytest.raises(TransitionNotAllowedError, match=why):
        waived(make_debt(), waiver, NOON)


def test_a_waiver_ends_by_itself_and_leaves_the_debt_where_it_is() -> None:
    debt = waived(make_debt(state=DebtState.FILED), Waiver("alice", "in review", NOON + 20 * DAY), NOON)
    assert debt is not None
    assert (debt.state, debt.state_at(NOON)) == (DebtState.FILED, DebtState.WAIVED)
    assert not debt.is_overdue(NOON + 15 * DAY)
    assert debt.state_at(NOON + 20 * DAY) is DebtState.FILED
    assert debt.is_overdue(NOON + 20 * DAY)
    with pytest.raises(TransitionNotAllowedError, match="is paid; there is nothing to waive"):
        waived(replace(debt, state=DebtState.PAID), Waiver("alice", "x", NOON + DAY), NOON)


def _debts(*names: str, **changes: object) -> dict[str, Debt]:
    return {name: make_debt(fingerprint=name, **changes) for name in names}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=20))
def test_duplicates_never_form_a_circle(pairs: list[tuple[str, str]]) -> None:
    debts = _debts(*"abcdef")
    for name, of in pairs:
        try:
            changed = as_duplicate(debts[name], of, debts)
        except TransitionNotAllowedError:
            continue
        if changed is not None:
            debts[name] = changed
    roots = {name for name, debt in debts.items() if debt.state is not DebtState.DUPLICATE}
    paid = {one.fingerprint for root in roots for one in duplicates_of(root, debts)}
    assert roots | paid == set(debts), "every debt is paid by itself or with another one"


def test_a_debt_is_no_duplicate_of_one_that_cannot_pay_for_it() -> None:
    debts = {
        **_debts("mine"),
        **_debts("paid", state=DebtState.PAID, paid_at=NOON),
        **_debts("other", service="other-bot"),
    }
    for of, why in (
        ("mine", "a circle"),
        ("paid", "is paid already"),
        ("other", "says nothing about another"),
        ("unheard", "there is no debt 'unheard'"),
    ):
        with pytest.raises(TransitionNotAllowedError, match=why):
            as_duplicate(debts["mine"], of, debts)


def _again(debt: Debt, after: timedelta, severity: Severity = Severity.MINOR) -> tuple[Debt, DebtEventKind]:
    breach = make_breach(NOON + after, severity=severity)
    logged = LoggedBreach("b", "d", RolloutKey("d", "r"), "support-bot", "v44", "v41", breach, NOON + after)
    return count_breach(debt, logged)


def test_a_reopened_debt_is_owed_without_the_waiver_it_had() -> None:
    paid = make_debt(state=DebtState.PAID, paid_at=NOON, waiver=Waiver("alice", "in review", NOON + 60 * DAY))
    debt, kind = _again(paid, 30 * DAY)
    assert (kind, debt.state, debt.waiver) == (DebtEventKind.REOPENED, DebtState.REOPENED, None)
    assert debt.is_overdue(NOON + 61 * DAY)


def test_a_duplicate_that_recurs_before_the_payment_stays_one_and_after_it_is_owed_by_itself() -> None:
    duplicate = make_debt(state=DebtState.DUPLICATE, duplicate_of="o" * 64)
    debt, kind = _again(duplicate, DAY)
    assert (kind, debt.state, debt.occurrences) == (DebtEventKind.OCCURRENCE, DebtState.DUPLICATE, 2)
    debt, kind = _again(replace(debt, paid_at=NOON + 2 * DAY), 3 * DAY)
    assert (kind, debt.state, debt.duplicate_of) == (DebtEventKind.REOPENED, DebtState.REOPENED, None)


def test_a_launch_past_the_gate_is_a_major_debt_of_that_release_and_owed_again_when_repeated() -> None:
    said = {"by": "bob", "reason": "outage of the other vendor"}
    debt, event = bypassed(None, "support-bot", "v43", at=NOON, **said)
    assert (debt.budget, debt.severity) == ("launch_gate.bypass_increase in v43", Severity.MAJOR)
    assert debt.due_at == NOON + 10 * DAY
    assert (event.kind, event.by, event.detail) == (DebtEventKind.BYPASSED, "bob", said["reason"])
    more, _ = bypassed(debt, "support-bot", "v43", at=NOON + DAY, **said)
    assert (more.occurrences, more.due_at) == (2, debt.due_at)
    paid = replace(more, state=DebtState.PAID, paid_at=NOON + 2 * DAY)
    again, _ = bypassed(paid, "support-bot", "v43", at=NOON + 90 * DAY, **said)
    assert (again.state, again.due_at) == (DebtState.REOPENED, NOON + 100 * DAY)


@pytest.mark.parametrize("state", list(FOLLOWS))
@pytest.mark.parametrize("to", list(FOLLOWS))
def test_a_debt_moves_where_the_table_says_and_nowhere_else(state: DebtState, to: DebtState) -> None:
    debt = make_debt(state=state, duplicate_of="o" * 64 if state is DebtState.DUPLICATE else None)
    try:
        moved_to: Debt | None = moved(debt, to)
    except TransitionNotAllowedError:
        moved_to = None
    assert (moved_to is not None) == (to in FOLLOWS[state])
    if to in STEPS[1:]:
        try:
            forward = advanced(debt, to, NOON, proven=True)
        except TransitionNotAllowedError:
            forward = None
        assert (forward is not None) == (to in FOLLOWS[state])


def test_every_state_but_the_waived_one_has_its_followers_and_a_paid_debt_only_comes_back() -> None:
    assert set(FOLLOWS) == set(DebtState) - {DebtState.WAIVED}
    assert FOLLOWS[DebtState.PAID] == {DebtState.REOPENED, DebtState.DETECTED}
    assert [state for state, after in FOLLOWS.items() if DebtState.PAID in after] == [DebtState.PROVEN]
