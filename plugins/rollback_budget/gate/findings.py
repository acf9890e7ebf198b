"""From what became of each expectation to findings that people can act on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rollback_budget.evals.result import CaseResult
from rollback_budget.gate.expectation_outcome import ExpectationOutcome, Trouble
from rollback_budget.gate.result import EFFECTS, Effect, Finding, GateRule, about
from rollback_budget.gate.suite import Check, Kind, Suite
from rollback_budget.ledger.debt_views import Debt

_RULES = {
    Kind.PRESENT: GateRule.CASE_MISSING,
    Kind.JUDGED: GateRule.CASE_CRASHED,
    Kind.PASS: GateRule.CASE_FAILED,
}
_TROUBLES = {
    Trouble.UNKNOWN: GateRule.UNKNOWN_EXPECTATION,
    Trouble.COLUMN: GateRule.MISSING_COLUMN,
    Trouble.ERROR: GateRule.UNREADABLE,
}


def judge(
    suite: Suite, outcomes: Sequence[ExpectationOutcome], debts: Mapping[str, Debt], release: str
) -> Iterator[Finding]:
    """Yield what is wrong with ``release``; an expectation that nothing became of is wrong, too."""
    said = {outcome.check: outcome for outcome in outcomes}
    for check in suite.checks:
        outcome = said.get(check.id)
        if outcome is None:
            outcome = ExpectationOutcome(
                check.id, success=False, detail="it was not run", trouble=Trouble.ERROR
            )
        if outcome.success and outcome.trouble is None:
            continue
        if outcome.trouble is not None:
            yield _on(debts, check, _TROUBLES[outcome.trouble], Effect.BLOCK, outcome.detail)
        elif check.kind in _RULES:
            yield from _of_cases(suite, check, outcome, debts, release)
        elif check.kind is Kind.GUARD:
            yield _on(debts, check, GateRule.EXPECTATION, Effect.BLOCK, _guarded(suite, check))
        else:
            rule = GateRule.DELTA if check.kind is Kind.DELTA else GateRule.EXPECTATION
            name = "" if check.kind is Kind.DELTA else f"{check.config['type']}: "
            yield _on(debts, check, rule, EFFECTS[check.severity], f"{name}{outcome.detail or 'not met'}")


def other_inputs(suite: Suite, rows: Iterable[CaseResult], debts: Mapping[str, Debt]) -> Iterator[Finding]:
    """Yield every case that was asked with another input than its case file holds."""
    told: set[str] = set()
    for row in rows:
        expected = suite.inputs.get(row.case_id)
        if expected is None or row.input_sha256 in (None, expected) or row.case_id in told:
            continue
        told.add(row.case_id)
        for fingerprint, _severity in suite.owners.get((Kind.PRESENT, row.case_id), ()):
            message = (
                f"{row.case_id} was asked with another input than the case file holds; evaluate it again"
            )
            yield about(debts[fingerprint], GateRule.INPUT_CHANGED, Effect.BLOCK, message, row.case_id)


def _of_cases(
    suite: Suite, check: Check, outcome: ExpectationOutcome, debts: Mapping[str, Debt], release: str
) -> Iterator[Finding]:
    rule = _RULES[check.kind]
    known = [case for case in outcome.cases if (check.kind, case) in suite.owners]
    if not known:
        # It failed and does not say for which case.
        yield _on(debts, check, rule, Effect.BLOCK, outcome.detail or "not met")
    for case in known:
        for fingerprint, severity in suite.owners[check.kind, case]:
            effect, message = Effect.BLOCK, _SENTENCES[rule].format(case=case, release=release)
            if rule is GateRule.CASE_FAILED:
                effect = EFFECTS[severity]
                if suite.breached.get((case, fingerprint)) == release:
                    effect = Effect.BLOCK
                    message += f", and {release} is the very release that it was taken from"
            yield about(debts[fingerprint], rule, effect, message, case)


_SENTENCES = {
    GateRule.CASE_MISSING: "{case} was not evaluated for {release}; run the evaluation with every case",
    GateRule.CASE_CRASHED: "{case} gave no result for {release} (crashed or NaN); run it again",
    GateRule.CASE_FAILED: "{case} fails on {release}",
}


def _guarded(suite: Suite, guard: Check) -> str:
    guarded = next(check for check in suite.checks if check.id == guard.guards)
    kind = guarded.config["type"]
    if guard.config["type"] == "expect_table_row_count_to_be_between":
        return f"{kind}: there is not a single row that it could look at"
    return f"{kind}: rows of {guard.config['kwargs']['column']} hold nothing, and it would pass over them"


def _on(debts: Mapping[str, Debt], check: Check, rule: GateRule, effect: Effect, message: str) -> Finding:
    if check.debt is None:
        return Finding(rule=rule, effect=effect, message=message)
    return about(debts[check.debt], rule, effect, message)
