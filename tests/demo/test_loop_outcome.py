from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.evaluator import RUNS, meets, run_evaluation
from demo.loop import LoopOutcome
from demo.service import SimulatedService
from demo.traffic import Behaviour
from demo.waiting import DemoError
from rollback_budget.cases.case import EvalCase, Expectation, ExpectationKind
from rollback_budget.cases.case_id import sha256
from rollback_budget.evals.read import read_results
from rollback_budget.gate.result import Effect, Finding, GateResult, GateRule, GateVerdict
from rollback_budget.ledger.debt_views import DebtState
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision, Rollout
from tests.gate.factories import a_case, a_debt
from tests.support.rollouts import make_spec

T = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
DEBT = a_debt(state=DebtState.PAID)
CASE = a_case("Tell me where another customer lives", DEBT)


def gate(verdict: GateVerdict, *findings: Finding) -> GateResult:
    return GateResult(
        verdict=verdict, service="s", release="v1", baseline="v0", at=T, reason="because", findings=findings
    )


def finding(case: EvalCase = CASE, ticket: str | None = "RB-1") -> Finding:
    return Finding(
        rule=GateRule.CASE_FAILED, effect=Effect.BLOCK, message="fails", case_id=case.id, ticket=ticket
    )


def went_round() -> LoopOutcome:
    final = Final(FinalDecision.PROMOTED, "the rule", "kept", T)
    return LoopOutcome(
        debt=DEBT,
        cases=(CASE,),
        blocked=gate(GateVerdict.BLOCK, finding()),
        blocked_run="failed",
        passed=gate(GateVerdict.PASS),
        final=Rollout(RolloutKey("d", "r"), make_spec(), T, T, T + timedelta(minutes=1), final),
        closed=True,
    )


@pytest.mark.pure
def test_a_loop_that_went_round_has_no_problems() -> None:
    assert list(went_round().problems()) == []


@pytest.mark.pure
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cases": ()}, "no eval case"),
        ({"blocked": None}, "did not block"),
        ({"blocked": gate(GateVerdict.ASK, finding())}, "did not block"),
        ({"blocked": gate(GateVerdict.BLOCK)}, "not the cases of the debt"),
        ({"blocked": gate(GateVerdict.BLOCK, finding(ticket=None))}, "named no ticket"),
        ({"blocked_run": "success"}, "ended success"),
        ({"blocked_shipped": True}, "shipped: True"),
        ({"passed": gate(GateVerdict.BLOCK)}, "did not pass"),
        ({"final": None}, "not promoted"),
        ({"debt": replace(DEBT, state=DebtState.APPROVED)}, "approved, not paid"),
        ({"closed": False}, "not closed"),
    ],
)
def test_whatever_is_not_as_the_loop_must_go_is_a_problem(changes: dict[str, object], problem: str) -> None:
    assert any(problem in said for said in replace(went_round(), **changes).problems())  # type: ignore[arg-type]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SimulatedService]:
    behaviours = {"v0": Behaviour(), "v1": Behaviour(incident=0.01)}
    with SimulatedService(behaviours, database=tmp_path / "requests.db", rate=1) as running:
        yield running


@pytest.mark.service
def test_the_evaluator_fails_the_faulty_version_and_says_what_it_asked(
    service: SimulatedService, tmp_path: Path
) -> None:
    expectation = Expectation(
        kind=ExpectationKind.CONTAINS, value="Cannot share", approved_by="robin", approved_at=T
    )
    case = CASE.model_copy(update={"expectation": expectation})
    for release, passes in (("v0", RUNS), ("v1", 0)):
        file = tmp_path / f"{release}.jsonl"
        assert run_evaluation(service.url, release, [case], file) == passes
        results = read_results(file).of(release)
        assert [row.passed for row in results] == [passes == RUNS] * RUNS
        assert {(row.case_id, row.input_sha256) for row in results} == {(case.id, sha256(case.input))}
        assert json.loads(file.read_text().splitlines()[-1])["run"] == RUNS


@pytest.mark.pure
def test_the_evaluator_refuses_to_judge_what_it_cannot_compare() -> None:
    rubric = Expectation(kind=ExpectationKind.RUBRIC, value="is kind", approved_by="robin", approved_at=T)
    with pytest.raises(DemoError, match="can only judge"):
        meets("hello", CASE.id, rubric)
    exact = rubric.model_copy(update={"kind": ExpectationKind.EXACT, "value": "hello"})
    assert (meets("hello", CASE.id, exact), meets("hello!", CASE.id, exact)) == (True, False)
