from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.cases.case import EvalCase
from rollback_budget.debt.lifecycle import bypassed
from rollback_budget.debt.pay import breached_release, candidate_release
from rollback_budget.debt.proof import Proof, ProofRule, Releases, breached_releases, judge
from rollback_budget.evals.result import Results
from rollback_budget.exceptions import EvalError
from rollback_budget.ledger.debt_views import DebtEvent, DebtEventKind
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedBreach
from tests.debt.factories import make_case, make_debt, results_of
from tests.support.rollouts import NOON, make_breach

pytestmark = pytest.mark.pure

DEBT = make_debt()
ONE, TWO = make_case("why?", DEBT), make_case("how?", DEBT)
SHOWED = Releases(red=("v42",), ever=("v42", "v40"), baselines=("v41",))

Runs = Mapping[str, list[bool | None]]


def prove(red: Runs, green: Runs, *cases: EvalCase, **changes: Any) -> Proof:
    return judge(
        DEBT,
        cases,
        results_of("v42", red, cases),
        results_of("v43", green, cases),
        **{"breached_release": "v42", "candidate_release": "v43", "releases": SHOWED, **changes},
    )


def test_a_case_that_fails_on_the_breached_release_and_passes_on_the_candidate_proves() -> None:
    proof = prove({"why?": [False]}, {"why?": [True]}, ONE)
    assert proof.is_accepted
    assert proof.every_reason() == []


@pytest.mark.parametrize(
    ("red", "green", "reason"),
    [
        ([True], [True], "is not red: failed 0 of 1 runs on the breached release, 1 needed"),
        ([False], [False], "is not green: passed 0 of 1 runs, 1 needed"),
        ([None], [True], "is not red"),
        ([False], [None], "is not green"),
        ([], [True], "was not asked on the breached release"),
        ([False], [], "was not asked on the candidate"),
        ([False], [True, True, False], "is not green: passed 2 of 3 runs, 3 needed"),
        ([False, False], [True], "ask it as often"),
    ],
)
def test_a_case_that_is_not_red_or_not_green_refuses_the_proof(
    red: list[bool | None], green: list[bool | None], reason: str
) -> None:
    proof = prove({"why?": red, "how?": [False]}, {"why?": green, "how?": [True]}, ONE, TWO)
    assert not proof.is_accepted
    assert any(said.startswith(f"{ONE.id}: ") and reason in said for said in proof.every_reason())
    assert not any(said.startswith(TWO.id) for said in proof.every_reason())


def test_k_of_n_says_how_often_a_flaky_case_must_fail_and_pass() -> None:
    red, green = [False, True, False, True], [True, True, False, True]
    assert prove({"why?": red}, {"why?": green}, ONE, rule=ProofRule(red=2, green=3)).is_accepted
    assert not prove({"why?": red}, {"why?": green}, ONE, rule=ProofRule(red=3, green=3)).is_accepted
    assert not prove({"why?": red}, {"why?": green}, ONE, rule=ProofRule(red=2, green=4)).is_accepted


def test_drafts_and_stubs_prove_nothing() -> None:
    draft = make_case("why?", DEBT, approved=False)
    stub = make_case("how?", DEBT, missing="bring the requests of the window")
    proof = prove({"why?": [False], "how?": [False]}, {"why?": [True], "how?": [True]}, draft, stub)
    assert "none of its 2 cases has an approved expectation" in proof.every_reason()[0]
    assert proof.left_out == (draft.id, stub.id)
    assert "has no eval case" in prove({}, {}).every_reason()[0]


def test_a_draft_beside_an_approved_case_is_named_and_not_counted() -> None:
    draft = make_case("how?", DEBT, approved=False)
    proof = prove({"why?": [False]}, {"why?": [True]}, ONE, draft)
    assert proof.is_accepted
    assert proof.left_out == (draft.id,)


def _with_hash(results: Results, value: str | None) -> Results:
    return replace(results, cases=tuple(replace(row, input_sha256=value) for row in results.cases))


@pytest.mark.parametrize("value", [None, "0" * 64])
@pytest.mark.parametrize("of_candidate", [True, False])
def test_an_input_that_is_not_the_approved_one_refuses_the_proof(
    value: str | None, of_candidate: bool
) -> None:
    red, green = results_of("v42", {"why?": [False]}, [ONE]), results_of("v43", {"why?": [True]}, [ONE])
    if of_candidate:
        green = _with_hash(green, value)
    else:
        red = _with_hash(red, value)
    proof = judge(DEBT, [ONE], red, green, breached_release="v42", candidate_release="v43", releases=SHOWED)
    (reason,) = proof.every_reason()
    assert ("do not say which input" if value is None else "another input was asked") in reason
    assert not proof.cases[0].is_in_data_set


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"breached_release": "v40"}, "v40 is not a release on which this debt breached since"),
        ({"candidate_release": "v42"}, "v42 is itself a release on which this debt breached"),
        ({"candidate_release": "v40"}, "v40 is itself a release on which this debt breached"),
    ],
)
def test_the_releases_must_be_one_that_breached_and_one_that_never_did(
    named: dict[str, str], reason: str
) -> None:
    proof = prove({"why?": [False]}, {"why?": [True]}, ONE, **named)
    assert any(reason in said for said in proof.every_reason())
    assert not proof.is_accepted


outcomes = st.lists(st.sampled_from([True, False, None]), max_size=4)


@given(red=outcomes, green=outcomes, k=st.integers(1, 3))
def test_no_proof_is_accepted_without_a_failure_and_a_pass(
    red: list[bool | None], green: list[bool | None], k: int
) -> None:
    proof = prove({"why?": red}, {"why?": green}, ONE, rule=ProofRule(k))
    right = red.count(False) >= k and bool(green) and all(green) and len(green) >= len(red)
    assert proof.is_accepted is right
    assert bool(proof.every_reason()) is not right


def test_the_same_proof_has_the_same_digest_and_another_one_has_not() -> None:
    same = [prove({"why?": [False]}, {"why?": [True]}, ONE).digest for _ in range(2)]
    assert len(set(same)) == 1
    others = [
        prove({"why?": [False]}, {"why?": [True, True]}, ONE).digest,
        prove({"why?": [False]}, {"why?": [True]}, ONE, rule=ProofRule(green=1)).digest,
        prove({"why?": [False]}, {"why?": [True]}, ONE, candidate_release="v44").digest,
    ]
    assert len({*same, *others}) == 4


def test_what_came_back_must_be_red_on_the_release_that_brought_it_back() -> None:
    def breach(release: str, fingerprint: str) -> LoggedBreach:
        key = RolloutKey("d", release)
        return LoggedBreach(
            fingerprint, DEBT.fingerprint, key, "support-bot", release, "v41", make_breach(), NOON
        )

    def event(kind: DebtEventKind, fingerprint: str | None) -> DebtEvent:
        return DebtEvent(DEBT.fingerprint, 1, kind, NOON, fingerprint)

    story = [
        event(DebtEventKind.DETECTED, "a"),
        event(DebtEventKind.PAID, None),
        event(DebtEventKind.REOPENED, "b"),
        event(DebtEventKind.OCCURRENCE, "c"),
    ]
    breaches = [breach("v45", "c"), breach("v44", "b"), breach("v42", "a")]
    showed = breached_releases(DEBT, breaches, story)
    assert showed == Releases(("v45", "v44"), ("v45", "v44", "v42"), ("v41",))


def test_a_launch_past_the_gate_is_proven_on_the_release_that_was_launched() -> None:
    debt, event = bypassed(None, "support-bot", "v43", by="bob", reason="outage", at=NOON)
    assert breached_releases(debt, [], [event]) == Releases(red=("v43",), ever=("v43",))


def test_releases_are_taken_from_the_results_where_only_one_can_be_meant() -> None:
    cases = [ONE]
    both = replace(
        results_of("v42", {"why?": [False]}, cases),
        cases=(
            *results_of("v41", {"why?": [True]}, cases).cases,
            *results_of("v42", {"why?": [False]}, cases).cases,
            *results_of("v43", {"why?": [True]}, cases).cases,
        ),
    )
    assert breached_release(both, None, SHOWED) == "v42"
    assert candidate_release(both, None, SHOWED) == "v43"
    several = replace(both, cases=(*both.cases, *results_of("v44", {"why?": [True]}, cases).cases))
    with pytest.raises(EvalError, match=r"v43, v44; say which with --candidate-release"):
        candidate_release(several, None, SHOWED)
    assert candidate_release(several, "v44", SHOWED) == "v44"
    with pytest.raises(EvalError, match="holds no results of 'v9'"):
        candidate_release(several, "v9", SHOWED)
    with pytest.raises(EvalError, match=r"holds results of v43, and the debt breached on v42"):
        breached_release(results_of("v43", {"why?": [True]}, cases), None, SHOWED)
