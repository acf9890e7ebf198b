"""From the outcome of each expectation to findings that people can act on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rollback_budget.evals.result import CaseResult
from rollback_budget.gate.result import EFFECTS, Effect, Finding, GateRule, debt_finding
from rollback_budget.gate.suite import Check, ExpectationOutcome, Kind, OutcomeError, Suite
from rollback_budget.ledger.debt_views import Debt

_RULES = {
    Kind.PRESENT: GateRule.CASE_MISSING,
    Kind.JUDGED: GateRule.CASE_CRASHED,
    Kind.PASS: GateRule.CASE_FAILED,
}
_ERROR_RULES = {
    OutcomeError.UNKNOWN: GateRule.UNKNOWN_EXPECTATION,
    OutcomeError.COLUMN: GateRule.MISSING_COLUMN,
    OutcomeError.ERROR: GateRule.UNREADABLE,
}


def findings_of(
    suite: Suite, outcomes: Sequence[ExpectationOutcome], debts: Mapping[str, Debt], release: str
) -> Iterator[Finding]:
    """Yield what is wrong with ``release``; an expectation without an outcome is a finding, too."""
    by_check = {outcome.check: outcome for outcome in outcomes}
    for check in suite.checks:
        outcome = by_check.get(check.id)
        if outcome is None:
            outcome = ExpectationOutcome(
                check.id, success=False, detail="it was not run", error=OutcomeError.ERROR
            )
        if outcome.success and outcome.error is None:
            continue
        if outcome.error is not None:
            yield _finding(debts, check, _ERROR_RULES[outcome.error], Effect.BLOCK, outcome.detail)
        elif check.kind in _RULES:
            yield from _of_cases(suite, check, outcome, debts, release)
        elif check.kind is Kind.GUARD:
            yield _finding(debts, check, GateRule.EXPECTATION, Effect.BLOCK, _guard_message(suite, check))
        else:
            rule = GateRule.DELTA if check.kind is Kind.DELTA else GateRule.EXPECTATION
            name = "" if check.kind is Kind.DELTA else f"{check.config['type']}: "
            yield _finding(
                debts, check, rule, EFFECTS[check.severity], f"{name}{outcome.detail or 'not met'}"
            )


def other_inputs(suite: Suite, rows: Iterable[CaseResult], debts: Mapping[str, Debt]) -> Iterator[Finding]:
    """Yield every case that was asked with another input than its case file holds."""
    seen: set[str] = set()
    for row in rows:
        expected = suite.inputs.get(row.case_id)
        if expected is None or row.input_sha256 in (None, expected) or row.case_id in seen:
            continue
        seen.add(row.case_id)
        for fingerprint, _severity in suite.owners.get((Kind.PRESENT, row.case_id), ()):
            message = (
                f"{row.case_id} was asked with another input than the case file holds; evaluate it again"
            )
            yield debt_finding(debts[fingerprint], GateRule.INPUT_CHANGED, Effect.BLOCK, message, row.case_id)


def _of_cases(
    suite: Suite, check: Check, outcome: ExpectationOutcome, debts: Mapping[str, Debt], release: str
) -> Iterator[Finding]:
    rule = _RULES[check.kind]
    known = [case for case in outcome.cases if (check.kind, case) in suite.owners]
    if not known:
        # It failed and does not say for which case.
        yield _finding(debts, check, rule, Effect.BLOCK, outcome.detail or "not met")
    for case in known:
        for fingerprint, severity in suite.owners[check.kind, case]:
            effect, message = Effect.BLOCK, _SENTENCES[rule].format(case=case, release=release)
            if rule is GateRule.CASE_FAILED:
                effect = EFFECTS[severity]
                if suite.breached.get((case, fingerprint)) == release:
                    effect = Effect.BLOCK
                    message += f", and {release} is the very release that it was taken from"
            yield debt_finding(debts[fingerprint], rule, effect, message, case)


_SENTENCES = {
    GateRule.CASE_MISSING: "{case} was not evaluated for {release}; run the evaluation with every case",
    GateRule.CASE_CRASHED: "{case} gave no result for {release} (crashed or NaN); run it again",
    GateRule.CASE_FAILED: "{case} fails on {release}",
}


def _guard_message(suite: Suite, guard: Check) -> str:
    guarded = next(check for check in suite.checks if check.id == guard.guards)
    kind = guarded.config["type"]
    if guard.config["type"] == "expect_table_row_count_to_be_between":
        return f"{kind}: there is no row that it could check"
    return f"{kind}: rows of {guard.config['kwargs']['column']} have no value, and it would ignore them"


def _finding(
    debts: Mapping[str, Debt], check: Check, rule: GateRule, effect: Effect, message: str
) -> Finding:
    if check.debt is None:
        return Finding(rule=rule, effect=effect, message=message)
    return debt_finding(debts[check.debt], rule, effect, message)
