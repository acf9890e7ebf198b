"""From a breach to approved cases: nothing that people wrote is lost, and nothing private is written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.cases.case import ExpectationKind
from rollback_budget.cases.draft import Origin, draft, merge, stub
from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cases.query import failure_query_of
from rollback_budget.debt.approval import approve, expectation_of
from rollback_budget.debt.drafting import ReadFailures, draft_debt, draft_requests, sync_folder
from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import CaseError, SourceError
from rollback_budget.ledger.debt_views import CaseState, Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.model.budget import Comparison
from rollback_budget.model.case_source import Cases, SqlCases
from tests.cases.factories import BREACHED_AT, case, debt, expects
from tests.support.rollouts import KEY, NOON, log_breach, make_breach, race

pytestmark = pytest.mark.database

ORIGIN = Origin("b" * 64, "model-v42")
SOURCE = Cases(source=SqlCases(conn_id="log", query="SELECT 1 AS input"), limit=3)
REQUESTS = [FailedRequest(f"question number {word}", f"answer {word}") for word in ("one", "two", "three")]
NOW = NOON + timedelta(hours=1)


def reading(*requests: FailedRequest) -> ReadFailures:
    return lambda _rollout, _question: list(requests)


@pytest.fixture
def folder(tmp_path: Path) -> CaseFolder:
    return CaseFolder(tmp_path / "eval-cases")


def owed(ledger: Ledger, **changes: Any) -> Debt:
    """A debt of one breach, whose rollout has a source of cases."""
    log_breach(ledger, make_breach(**changes), cases=SOURCE)
    [change] = log_debts(ledger, None, NOON)
    return change.debt


def drafted(ledger: Ledger, folder: CaseFolder, one: Debt, read: ReadFailures, **options: Any) -> Debt:
    return draft_debt(ledger, folder, one, read, by="test", at=NOW, **options).debt


def test_nothing_private_reaches_a_case() -> None:
    request = FailedRequest(
        input=[{"role": "user", "content": "I am jane@example.com, card 4111 1111 1111 1111"}],
        output={"mail": "jane@example.com"},
        trace_id="0af7651916cd43dd8448eb211c80319c",
        slice="jane@example.com",
        metadata={"user": "jane@example.com", "api_key": "zebra", "jane@example.com": 1},
    )
    [made] = draft(debt(), ORIGIN, [request], Cases())
    written = made.model_dump_json()
    assert not any(secret in written for secret in ("jane", "4111", "zebra"))
    assert made.provenance.trace_id == request.trace_id
    assert made.expectation is None
    assert made.breached_output == {"mail": "[redacted:email]"}


def test_requests_that_differ_only_in_what_is_private_are_one_case() -> None:
    requests = [FailedRequest(f"I am {name}@example.com") for name in ("jane", "john")]
    assert len(draft(debt(), ORIGIN, requests, Cases())) == 1


def test_a_long_request_is_cut_and_says_so() -> None:
    [made] = draft(debt(), ORIGIN, [FailedRequest("word " * 1000, "x")], Cases(longest=200))
    assert isinstance(made.input, str)
    assert made.input.endswith("characters left out]")
    assert made.metadata["characters_left_out"] == {"input": 4800}
    [whole] = draft(debt(), ORIGIN, [FailedRequest("word " * 1000, "x")], Cases())
    assert made.id == whole.id
    assert made.provenance.content_sha256 == whole.provenance.content_sha256


def test_a_merge_keeps_what_people_wrote_and_drops_the_stub() -> None:
    edited = case("question", expected=expects("right"), metadata={"note": "by hand"})
    fresh = [case("question"), case("another")]
    there = [edited, stub(debt(), ORIGIN, "Nothing.")]
    merged = merge(there, fresh)
    assert edited in merged
    assert {one.id for one in merged} == {one.id for one in fresh}
    assert merge(merged, fresh) == merged
    assert merge([edited], fresh, removed={fresh[1].id}) == [edited]
    known = {fresh[1].id: case("another", of="f" * 64, expected=expects("yes"))}
    assert {one.input: one.is_approved for one in merge([], fresh, approved=known)} == {
        "question": False,
        "another": True,
    }


def test_a_breach_becomes_drafts_and_approved_drafts_become_an_approved_debt(
    ledger: Ledger, folder: CaseFolder
) -> None:
    one = owed(ledger)
    one = drafted(ledger, folder, one, reading(*REQUESTS))
    assert one.state is DebtState.DRAFTED
    cases = folder.cases_of(one)
    assert [case.input for case in cases if case.expectation is not None] == []
    assert {entry.state for entry in ledger.cases.of(one.fingerprint)} == {CaseState.DRAFT}
    expectation = expectation_of(ExpectationKind.CONTAINS, "30 days", by="ada", at=NOW)
    approve(ledger, folder, one, [cases[0].id[:12]], expectation)
    assert ledger.debts.every()[0].state is DebtState.DRAFTED
    approve(ledger, folder, one, ["all"], expectation)
    assert ledger.debts.every()[0].state is DebtState.APPROVED
    entries = ledger.cases.of(one.fingerprint)
    assert {(entry.state, entry.approved_by) for entry in entries} == {(CaseState.APPROVED, "ada")}
    before = folder.file_of(one).read_bytes()
    assert drafted(ledger, folder, one, reading(*REQUESTS)).state is DebtState.APPROVED
    assert folder.file_of(one).read_bytes() == before


def test_the_window_asked_for_is_that_of_the_breach(ledger: Ledger) -> None:
    owed(ledger)
    [logged] = ledger.breaches.of(KEY)
    rollout = ledger.rollouts.get(KEY)
    assert rollout is not None
    question = failure_query_of(logged, rollout)
    step = rollout.spec.watch.step
    assert (question.start, question.end) == (logged.breach.started_at - step, logged.breach.breached_at)
    assert question.bound == pytest.approx(1.6 * 1.15)
    counted = replace(
        logged,
        breach=logged.breach.model_copy(update={"comparison": Comparison.INCREASE, "started_at": NOON}),
    )
    shipped = replace(rollout, shipped_at=NOON - timedelta(hours=1))
    assert failure_query_of(counted, shipped).start == NOON - timedelta(hours=1)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (reading(), "holds no request that failed"),
        (reading(FailedRequest(None), FailedRequest("")), "keeps no content"),
    ],
)
def test_without_content_a_stub_says_what_to_bring(
    ledger: Ledger, folder: CaseFolder, read: ReadFailures, said: str
) -> None:
    one = owed(ledger)
    done = draft_debt(ledger, folder, one, read, by="test", at=NOW)
    [made] = folder.cases_of(one)
    assert said in str(made.missing)
    assert "rollback-budget debt add-case" in str(made.missing)
    assert done.debt.state is DebtState.DETECTED
    with pytest.raises(CaseError, match="is a stub"):
        approve(ledger, folder, one, [made.id], expects("x"))
    brought = draft_requests(ledger, folder, one, REQUESTS, by="ada", at=NOW, keep_all=True)
    assert (len(brought.added), brought.debt.state) == (3, DebtState.DRAFTED)
    assert all(case.missing is None for case in folder.cases_of(one))


def test_a_source_that_is_unavailable_raises_until_the_last_try(ledger: Ledger, folder: CaseFolder) -> None:
    def unavailable(*_: object) -> list[FailedRequest]:
        raise SourceError("the database is unavailable", transient=True)

    one = owed(ledger)
    with pytest.raises(SourceError):
        drafted(ledger, folder, one, unavailable)
    assert folder.cases_of(one) == ()
    drafted(ledger, folder, one, unavailable, retry=False)
    [made] = folder.cases_of(one)
    assert "the database is unavailable" in str(made.missing)
    assert drafted(ledger, folder, one, reading(*REQUESTS)).state is DebtState.DRAFTED


def test_a_case_that_a_person_removed_is_not_drafted_again(ledger: Ledger, folder: CaseFolder) -> None:
    one = owed(ledger)
    drafted(ledger, folder, one, reading(*REQUESTS))
    kept = folder.cases_of(one)[1:]
    folder.write(one, kept)
    drafted(ledger, folder, one, reading(*REQUESTS))
    assert folder.cases_of(one) == kept
    folder.file_of(one).unlink()
    drafted(ledger, folder, one, reading(*REQUESTS))
    assert len(folder.cases_of(one)) == 3


def test_a_case_of_two_debts_is_approved_in_both(ledger: Ledger, folder: CaseFolder) -> None:
    first = owed(ledger)
    log_breach(ledger, make_breach(), RolloutKey("other", "r"), service="other-bot", cases=SOURCE)
    [change] = log_debts(ledger, None, NOON)
    for one in (first, change.debt):
        drafted(ledger, folder, one, reading(REQUESTS[0]))
    assert folder.cases_of(first)[0].id == folder.cases_of(change.debt)[0].id
    approve(ledger, folder, first, ["all"], expects("right"))
    assert {one.state for one in ledger.debts.every()} == {DebtState.APPROVED}
    log_breach(ledger, make_breach(), RolloutKey("third", "r"), service="third-bot", cases=SOURCE)
    [third] = log_debts(ledger, None, NOON)
    assert drafted(ledger, folder, third.debt, reading(REQUESTS[0])).state is DebtState.APPROVED


def test_what_people_write_into_a_file_reaches_the_ledger(ledger: Ledger, folder: CaseFolder) -> None:
    one = owed(ledger)
    drafted(ledger, folder, one, reading(REQUESTS[0]))
    assert sync_folder(ledger, folder, by="test", at=NOW) == []
    file = folder.file_of(one)
    line = json.loads(file.read_text())
    line["expectation"] = {
        "kind": "exact",
        "value": "right",
        "approved_by": "ada",
        "approved_at": BREACHED_AT.isoformat(),
    }
    file.write_text(json.dumps(line) + "\n")
    [changed] = sync_folder(ledger, folder, by="test", at=NOW)
    assert changed.state is DebtState.APPROVED


def test_approvals_that_race_with_drafting_are_never_lost(ledger: Ledger, folder: CaseFolder) -> None:
    one = owed(ledger)
    drafted(ledger, folder, one, reading(REQUESTS[0]))
    [first] = folder.cases_of(one)

    def run(number: int) -> None:
        own = Ledger(ledger.url)
        if number == 0:
            approve(own, folder, one, [first.id], expects("right"))
        else:
            drafted(own, folder, one, reading(FailedRequest(f"another question, the {number}th")))

    race(6, run)
    cases = {case.id: case for case in folder.cases_of(one)}
    assert len(cases) == 6
    assert cases[first.id].is_approved


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (ExpectationKind.CONTAINS, " ", "needs text"),
        (ExpectationKind.CONTAINS, ["a", ""], "needs text"),
        (ExpectationKind.RUBRIC, "", "needs text"),
        (ExpectationKind.EXACT, "", "whole answer"),
        (ExpectationKind.JSON_SCHEMA, {}, "fits every answer"),
        (ExpectationKind.JSON_SCHEMA, {"type": "nothing"}, "not a JSON schema"),
        (ExpectationKind.JSON_SCHEMA, {"a": [{"$ref": "https://example.com/s"}]}, "no network"),
    ],
)
def test_an_expectation_by_which_anything_would_pass_is_refused(
    kind: ExpectationKind, value: Any, problem: str
) -> None:
    with pytest.raises(CaseError, match=problem):
        expectation_of(kind, value, by="ada", at=NOW)
    with pytest.raises(CaseError, match="who approves"):
        expectation_of(ExpectationKind.EXACT, "x", by=" ", at=NOW)


def test_the_breached_answer_is_never_what_is_expected(ledger: Ledger, folder: CaseFolder) -> None:
    one = owed(ledger)
    drafted(ledger, folder, one, reading(REQUESTS[0]))
    with pytest.raises(CaseError, match="what the breached release answered"):
        approve(ledger, folder, one, ["all"], expects(" Answer  ONE\n"))
    assert not any(case.is_approved for case in folder.cases_of(one))
