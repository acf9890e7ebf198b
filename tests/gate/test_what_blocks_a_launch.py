"""The gate fails closed: each line of what must block, and what must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.gate.compile import compile_debt, delta_expectation
from rollback_budget.gate.delta import DeltaRule
from rollback_budget.gate.expectations import DebtExpectations, Expected
from rollback_budget.gate.result import BypassNote, Effect, GateRule, GateVerdict
from rollback_budget.ledger.debt_views import Debt, DebtState, Ticket, TicketState, Waiver
from rollback_budget.model.budget import Severity
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import Delta, EvalResults, LaunchGate
from tests.cases.factories import case
from tests.gate.factories import BASELINE, CANDIDATE, NOW, Launch, a_case, a_debt, only, row, rules

pytestmark = [pytest.mark.pure, pytest.mark.slow]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """A launch with one critical debt of two approved cases, which the candidate passes."""
    launch = Launch(tmp_path, debts=(a_debt(),))
    launch.rows = [row(case_id) for case_id in launch.with_cases("where is my refund?", "cancel it")]
    return launch


def expect(launch: Launch, *expected: Expected) -> None:
    """Add expectations by hand to the first debt's file."""
    [file] = launch.expectations.read().values()
    changed = file.model_copy(update={"expectations": (*file.expectations, *expected)})
    launch.expectations.write(changed, "task_success")


def test_a_candidate_that_passes_every_case_ships(launch: Launch) -> None:
    result = launch.judge()
    assert (result.verdict, result.findings, result.cases, result.debts) == (GateVerdict.PASS, (), 2, 1)
    assert result.ships
    assert "2 cases" in result.reason


def test_a_first_release_without_any_debt_passes_and_says_why(tmp_path: Path) -> None:
    result = Launch(tmp_path, rows=None).judge()
    assert result.verdict is GateVerdict.PASS
    assert result.reason == "support has no eval debt: there is nothing to check"


def test_debt_and_no_results_block(launch: Launch) -> None:
    launch.rows = None
    assert rules(launch.judge()) == {GateRule.NO_RESULTS}
    launch.rows = ()
    assert rules(launch.judge()) == {GateRule.NO_RESULTS}


def test_debt_without_a_place_of_results_blocks(launch: Launch) -> None:
    launch.more = {"gate": None}
    assert rules(launch.judge()) == {GateRule.NO_RESULTS}


def test_debt_and_not_one_expectation_block(tmp_path: Path) -> None:
    debts = (a_debt(severity=Severity.MINOR, state=DebtState.FILED),)
    launch = Launch(tmp_path, debts=debts, rows=[row("anything")])
    assert rules(launch.judge()) == {GateRule.NOTHING_EXPECTED}


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        (Severity.CRITICAL, GateVerdict.BLOCK),
        (Severity.MAJOR, GateVerdict.ASK),
        (Severity.MINOR, GateVerdict.PASS),
    ],
)
def test_a_debt_beside_others_that_no_case_covers_yet_counts_by_its_severity(
    launch: Launch, severity: Severity, verdict: GateVerdict
) -> None:
    launch.debts += (a_debt("tone", severity=severity, state=DebtState.FILED),)
    result = launch.judge()
    assert (result.verdict, only(result).rule) == (verdict, GateRule.NOT_COVERED)


def test_an_unknown_expectation_blocks(launch: Launch) -> None:
    expect(launch, Expected(type="expect_moon_to_be_full", kwargs={"column": "score"}, severity="info"))
    assert rules(launch.judge()) >= {GateRule.UNKNOWN_EXPECTATION}


def test_an_expectation_with_arguments_that_mean_nothing_blocks(launch: Launch) -> None:
    kwargs: dict[str, Any] = {"column": "score", "min_value": "low"}
    expect(launch, Expected(type="expect_column_mean_to_be_between", kwargs=kwargs, severity="info"))
    assert GateRule.UNREADABLE in rules(launch.judge())


def test_a_missing_column_of_the_results_blocks(launch: Launch) -> None:
    launch.gate = LaunchGate(
        results=EvalResults(path=str(launch.file)), columns=Columns(passed="verdict", case_id="case_id")
    )
    assert rules(launch.judge()) == {GateRule.MISSING_COLUMN}


def test_an_expectation_about_a_missing_column_blocks(launch: Launch) -> None:
    expect(
        launch,
        Expected(type="expect_column_values_to_be_between", kwargs={"column": "cost"}, severity="info"),
    )
    assert rules(launch.judge()) == {GateRule.MISSING_COLUMN}
    kwargs: dict[str, Any] = {
        "measure": "cost",
        "column": "cost",
        "comparison": "above",
        "threshold": 1.0,
        "worse": "higher",
    }
    launch.debts = (a_debt("other"),)
    launch.with_cases("x")
    expect_delta = delta_expectation(DeltaRule(**kwargs), "info")
    file = launch.expectations.read()[launch.debts[0].fingerprint]
    launch.expectations.write(
        file.model_copy(update={"expectations": (*file.expectations, expect_delta)}), "other"
    )
    assert GateRule.MISSING_COLUMN in rules(launch.judge())


def test_an_evaluator_that_did_not_run_for_the_candidate_blocks(launch: Launch) -> None:
    assert launch.rows
    launch.rows = [{**one, "release": BASELINE} for one in launch.rows]
    assert rules(launch.judge()) == {GateRule.NOT_EVALUATED}


def test_a_case_that_only_the_baseline_has_is_missing(launch: Launch) -> None:
    assert launch.rows
    first, second = launch.rows
    launch.rows = [first, {**second, "release": BASELINE}]
    finding = only(launch.judge())
    assert (finding.rule, finding.case_id) == (GateRule.CASE_MISSING, second["case_id"])


def test_every_missing_case_is_named_when_there_are_many(tmp_path: Path) -> None:
    launch = Launch(tmp_path, debts=(a_debt(),), rows=[row("another")])
    ids = launch.with_cases(*(f"question {number}" for number in range(60)))
    found = [one.case_id for one in launch.judge().findings if one.rule is GateRule.CASE_MISSING]
    assert sorted(map(str, found)) == sorted(ids)


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize("crash", [{"passed": None}, {"score": "NaN"}, {"passed": "NaN"}])
def test_a_case_that_crashed_or_scored_nan_blocks_whatever_its_severity(
    tmp_path: Path, severity: Severity, crash: dict[str, Any]
) -> None:
    launch = Launch(tmp_path, debts=(a_debt(severity=severity),))
    first, second = launch.with_cases("one", "two")
    launch.rows = [row(first), {**row(second), **crash}]
    finding = only(launch.judge())
    assert (finding.rule, finding.case_id, finding.effect) == (GateRule.CASE_CRASHED, second, Effect.BLOCK)


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        (Severity.CRITICAL, GateVerdict.BLOCK),
        (Severity.MAJOR, GateVerdict.ASK),
        (Severity.MINOR, GateVerdict.PASS),
    ],
)
def test_the_severity_of_a_debt_says_what_its_failing_case_leads_to(
    tmp_path: Path, severity: Severity, verdict: GateVerdict
) -> None:
    launch = Launch(tmp_path, debts=(a_debt(severity=severity),))
    first, second = launch.with_cases("one", "two")
    launch.rows = [row(first), row(second, passed=False)]
    result = launch.judge()
    assert (result.verdict, only(result).rule, only(result).case_id) == (
        verdict,
        GateRule.CASE_FAILED,
        second,
    )


def test_a_case_fails_when_one_of_its_runs_fails(launch: Launch) -> None:
    assert launch.rows
    launch.rows = [*launch.rows, {**launch.rows[0], "passed": False}]
    assert rules(launch.judge()) == {GateRule.CASE_FAILED}


def test_the_very_release_that_breached_blocks_at_any_severity_while_its_case_fails(tmp_path: Path) -> None:
    launch = Launch(tmp_path, debts=(a_debt(severity=Severity.MINOR),))
    [one] = launch.with_cases("one")
    launch.more = {"release": "model-v42"}
    launch.rows = [row(one, passed=False, release="model-v42")]
    finding = only(launch.judge())
    assert finding.effect is Effect.BLOCK
    assert "the very release" in finding.message


def test_a_case_of_two_debts_counts_for_both(tmp_path: Path) -> None:
    major = a_debt("tone", severity=Severity.MAJOR)
    launch = Launch(tmp_path, debts=(a_debt(), major))
    [one] = launch.with_cases("one")
    launch.rows = [row(one, passed=False)]
    found = {finding.debt: finding.effect for finding in launch.judge().findings}
    assert found == {launch.debts[0].fingerprint: Effect.BLOCK, major.fingerprint: Effect.ASK}


def test_a_changed_case_file_blocks(launch: Launch) -> None:
    file = launch.cases.file_of(launch.debts[0])
    file.write_text(file.read_text().replace("cancel it", "cancel it, please"), encoding="utf-8")
    assert rules(launch.judge()) == {GateRule.DATA_CHANGED}


def test_case_files_that_are_gone_block(launch: Launch) -> None:
    launch.cases.file_of(launch.debts[0]).unlink()
    assert rules(launch.judge()) == {GateRule.DATA_CHANGED}


def test_a_newly_approved_case_blocks_until_its_expectations_are_compiled(launch: Launch) -> None:
    debt = launch.debts[0]
    more = a_case("a third", debt)
    launch.cases.write(debt, [*launch.cases.cases_of(debt), more])
    assert launch.rows
    launch.rows = [*launch.rows, row(more.id)]
    assert rules(launch.judge()) == {GateRule.DATA_CHANGED}
    launch.expectations.write(compile_debt(debt, launch.cases, None, ()), "task_success")
    assert launch.judge().verdict is GateVerdict.PASS


@pytest.mark.parametrize("role", ["cases_present", "cases_judged", "cases_pass"])
def test_expectations_that_were_taken_out_of_a_file_block(launch: Launch, role: str) -> None:
    [file] = launch.expectations.read().values()
    kept = tuple(one for one in file.expectations if one.role != role)
    launch.expectations.write(file.model_copy(update={"expectations": kept}), "task_success")
    assert rules(launch.judge()) == {GateRule.DATA_CHANGED}


def test_an_expectation_that_names_fewer_cases_than_there_are_blocks(launch: Launch) -> None:
    [file] = launch.expectations.read().values()
    first, *others = file.expectations
    fewer = first.model_copy(update={"kwargs": {**first.kwargs, "value_set": []}})
    launch.expectations.write(file.model_copy(update={"expectations": (fewer, *others)}), "task_success")
    assert rules(launch.judge()) == {GateRule.DATA_CHANGED}


def test_a_case_that_was_asked_with_another_input_blocks(launch: Launch) -> None:
    assert launch.rows
    first, second = launch.rows
    launch.rows = [first, {**second, "input_sha256": "0" * 64}]
    finding = only(launch.judge())
    assert (finding.rule, finding.case_id) == (GateRule.INPUT_CHANGED, second["case_id"])
    [file] = launch.expectations.read().values()
    assert file.cases is not None
    launch.rows = [{**one, "input_sha256": file.cases.inputs[one["case_id"]]} for one in (first, second)]
    assert launch.judge().verdict is GateVerdict.PASS


def test_a_draft_is_not_expected_to_pass(launch: Launch) -> None:
    debt = launch.debts[0]
    draft = case("not approved yet", of=debt.fingerprint)
    launch.cases.write(debt, [*launch.cases.cases_of(debt), draft])
    launch.expectations.write(compile_debt(debt, launch.cases, None, ()), "task_success")
    assert launch.judge().verdict is GateVerdict.PASS


def test_missing_expectations_are_compiled_from_the_approved_cases(tmp_path: Path) -> None:
    launch = Launch(tmp_path, debts=(a_debt(),))
    [one] = launch.with_cases("one", compiled=False)
    launch.rows = [row(one, passed=False)]
    assert rules(launch.judge()) == {GateRule.CASE_FAILED}


def test_an_unreadable_file_of_expectations_or_cases_blocks(launch: Launch) -> None:
    (launch.folder / "gate" / "broken.json").write_text("{", encoding="utf-8")
    assert GateRule.UNREADABLE in rules(launch.judge())
    (launch.folder / "gate" / "broken.json").unlink()
    launch.cases.file_of(launch.debts[0]).write_text("{", encoding="utf-8")
    assert GateRule.UNREADABLE in rules(launch.judge())


@pytest.mark.parametrize("severity", [Severity.CRITICAL, Severity.MAJOR])
def test_overdue_debt_of_severity_major_or_more_blocks_even_when_its_cases_pass(
    launch: Launch, severity: Severity
) -> None:
    launch.debts = (replace(launch.debts[0], severity=severity, due_at=NOW - timedelta(seconds=1)),)
    assert rules(launch.judge()) == {GateRule.OVERDUE}


@pytest.mark.parametrize(
    "changes",
    [
        {"severity": Severity.MINOR, "due_at": NOW - timedelta(days=1)},
        {"state": DebtState.PAID, "due_at": NOW - timedelta(days=1)},
        {"due_at": NOW},
    ],
)
def test_minor_paid_or_not_yet_overdue_debt_does_not_block(launch: Launch, changes: dict[str, Any]) -> None:
    launch.debts = (replace(launch.debts[0], **changes),)
    assert launch.judge().verdict is GateVerdict.PASS


def test_the_cases_of_a_paid_debt_still_count(launch: Launch) -> None:
    launch.debts = (replace(launch.debts[0], state=DebtState.PAID),)
    assert launch.rows
    launch.rows = [{**one, "passed": False} for one in launch.rows]
    assert rules(launch.judge()) == {GateRule.CASE_FAILED}


def waived(debt: Debt, until: timedelta) -> Debt:
    return replace(debt, waiver=Waiver("ada", "a known outage", NOW + until), due_at=NOW - timedelta(days=1))


def test_a_waiver_holds_until_its_time_and_not_a_moment_longer(launch: Launch) -> None:
    assert launch.rows
    launch.rows = [{**one, "passed": False} for one in launch.rows]
    held = waived(launch.debts[0], timedelta(seconds=1))
    launch.debts = (held,)
    result = launch.judge()
    assert (result.verdict, only(result).rule) == (GateVerdict.PASS, GateRule.WAIVED)
    assert "ada" in only(result).message
    launch.debts = (waived(held, timedelta(0)),)
    assert rules(launch.judge()) == {GateRule.OVERDUE, GateRule.CASE_FAILED}


def test_a_duplicate_asks_for_nothing(tmp_path: Path) -> None:
    launch = Launch(tmp_path, debts=(a_debt(state=DebtState.DUPLICATE, duplicate_of="f" * 64),), rows=None)
    assert launch.judge().verdict is GateVerdict.PASS


def test_a_bypass_with_a_name_and_a_reason_ships_and_keeps_what_it_passed_over(launch: Launch) -> None:
    launch.rows = None
    launch.more = {"bypass": BypassNote(by="casey", reason="security fix", at=NOW)}
    result = launch.judge()
    assert result.verdict is GateVerdict.PASS
    assert rules(result) == {GateRule.NO_RESULTS}
    assert "casey" in result.reason
    assert "security fix" in result.reason


def test_a_bypass_is_not_mentioned_where_nothing_had_to_be_bypassed(launch: Launch) -> None:
    launch.more = {"bypass": BypassNote(by="casey", reason="security fix", at=NOW)}
    assert "casey" not in launch.judge().reason


def test_a_finding_names_the_case_the_breach_and_the_ticket(launch: Launch) -> None:
    ticket = Ticket(TicketState.FILED, "jira", "LLM-7", "https://jira.example/browse/LLM-7")
    launch.debts = (replace(launch.debts[0], ticket=ticket),)
    assert launch.rows
    launch.rows = [launch.rows[0], {**launch.rows[1], "passed": False}]
    finding = only(launch.judge())
    assert finding.case_id == launch.rows[1]["case_id"]
    assert finding.breach == "quality.task_success_delta_pp on 2026-06-01"
    assert (finding.ticket, finding.ticket_url) == ("LLM-7", "https://jira.example/browse/LLM-7")


# Expectations that a user wrote by hand.


def by_hand(kind: str, **kwargs: Any) -> Expected:
    return Expected(type=kind, kwargs=kwargs, severity="warning")


def test_an_expectation_by_hand_looks_at_the_candidate_only(launch: Launch) -> None:
    assert launch.rows
    launch.rows = [
        *({**one, "score": 0.9} for one in launch.rows),
        row("x", score=0.1, release=BASELINE),
    ]
    expect(launch, by_hand("expect_column_mean_to_be_between", column="score", min_value=0.8))
    assert launch.judge().verdict is GateVerdict.PASS
    launch.rows = [*({**one, "score": 0.7} for one in launch.rows), row("x", score=1.0, release=BASELINE)]
    result = launch.judge()
    assert (result.verdict, only(result).rule) == (GateVerdict.ASK, GateRule.EXPECTATION)


def test_rows_without_a_value_do_not_slip_past_an_expectation_by_hand(launch: Launch) -> None:
    assert launch.rows
    launch.rows = [{**launch.rows[0], "score": 0.9}, launch.rows[1]]
    expect(launch, by_hand("expect_column_values_to_be_between", column="score", min_value=0.8))
    finding = only(launch.judge())
    assert (finding.rule, finding.effect) == (GateRule.EXPECTATION, Effect.BLOCK)
    assert "rows of score have no value" in finding.message


def test_an_expectation_by_hand_that_looks_at_no_row_blocks(launch: Launch) -> None:
    nowhere = {"type": "comparison", "column": {"name": "slice"}, "operator": "==", "parameter": "fr"}
    expect(
        launch,
        by_hand("expect_column_sum_to_be_between", column="passed", max_value=0, row_condition=nowhere),
    )
    assert GateRule.EXPECTATION in rules(launch.judge())


def test_a_condition_that_cannot_be_held_to_the_candidate_blocks(launch: Launch) -> None:
    expect(launch, by_hand("expect_column_sum_to_be_between", column="passed", row_condition='slice=="de"'))
    result = launch.judge()
    assert rules(result)
    assert "its row_condition is a text" in result.reason


def test_two_expectations_that_differ_only_in_whose_they_are_are_both_run(tmp_path: Path) -> None:
    launch = Launch(tmp_path, debts=(a_debt(), a_debt("tone")))
    [one] = launch.with_cases("one")
    same = by_hand("expect_column_values_to_be_between", column="score", min_value=0.8)
    for debt in launch.debts:
        file = launch.expectations.read()[debt.fingerprint]
        changed = file.model_copy(update={"expectations": (*file.expectations, same)})
        launch.expectations.write(changed, debt.metric)
    launch.rows = [row(one, score=0.5)]
    found = [finding.debt for finding in launch.judge().findings]
    assert sorted(map(str, found)) == sorted(debt.fingerprint for debt in launch.debts)


# Deltas of the budget file itself.


def test_the_budgets_own_deltas_are_checked_without_any_debt(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    delta = Delta(
        measure="task_success", comparison="delta_pp", threshold=-2, worse="lower", severity="critical"
    )
    launch.gate = LaunchGate(results=EvalResults(path=str(launch.file)), deltas=(delta,), min_rows=4)
    baseline = [row(str(n), True, BASELINE) for n in range(4)]
    launch.rows = [*baseline, *(row(str(n)) for n in range(4))]
    assert launch.judge().verdict is GateVerdict.PASS
    launch.rows = [*baseline, *(row(str(n), n > 0) for n in range(4))]
    finding = only(launch.judge())
    assert (finding.rule, finding.effect) == (GateRule.DELTA, Effect.BLOCK)
    assert "-25 points, budget -2 points (n = 4 and 4)" in finding.message
    launch.rows = [*baseline, *(row(str(n)) for n in range(3))]
    assert f"{CANDIDATE} has 3 rows, at least 4 needed" in only(launch.judge()).message


def test_a_file_per_version_says_the_same_as_one_for_both(tmp_path: Path) -> None:
    launch = Launch(tmp_path, rows=None)
    delta = Delta(measure="task_success", comparison="delta_pp", threshold=-2, worse="lower")
    results = EvalResults(path=str(tmp_path / "{version}.csv"))
    launch.gate = LaunchGate(results=results, deltas=(delta,), min_rows=1)
    (tmp_path / f"{CANDIDATE}.csv").write_text("case_id,passed\nc1,false\n", encoding="utf-8")
    assert f"{BASELINE} has 0 rows" in only(launch.judge()).message
    (tmp_path / f"{BASELINE}.csv").write_text("case_id,passed\nc1,true\n", encoding="utf-8")
    assert "-100 points" in only(launch.judge()).message
    launch.more = {"release": "../elsewhere"}
    assert rules(launch.judge()) == {GateRule.NO_RESULTS}


def test_what_is_expected_is_written_as_text_that_git_likes(launch: Launch) -> None:
    [file] = sorted((launch.folder / "gate").glob("*.json"))
    text = file.read_text(encoding="utf-8")
    before = DebtExpectations.model_validate_json(text)
    launch.expectations.write(before, "another name")
    assert [one.name for one in (launch.folder / "gate").iterdir()] == [file.name]
    assert file.read_text(encoding="utf-8") == text
    assert text.startswith('{\n  "budget": ')
