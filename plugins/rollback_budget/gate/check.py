"""Checking one launch: overdue debts, the expectations of all debts, and the results of the evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rollback_budget.cases.folder import CaseFolder
from rollback_budget.evals.result import Results
from rollback_budget.exceptions import CaseError, EvalError, MissingColumnError
from rollback_budget.gate.compile import JUDGED, PASS, PRESENT, compile_debt, delta_expectation
from rollback_budget.gate.delta import DeltaRule
from rollback_budget.gate.expectations import DebtExpectations, Expected, GateFolder
from rollback_budget.gate.findings import findings_of, other_inputs
from rollback_budget.gate.request import GateRequest
from rollback_budget.gate.result import (
    EFFECTS,
    SEVERITIES,
    Effect,
    Finding,
    GateResult,
    GateRule,
    GateVerdict,
    debt_finding,
    verdict_of,
)
from rollback_budget.gate.rows import GateData, OpenEngine, load_results
from rollback_budget.gate.suite import EMPTY_SUITE, ExpectationOutcome, Kind, Suite, build_suite
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.model.budget import Severity
from rollback_budget.model.launch_gate import LaunchGate
from rollback_budget.text import plural

_Files = list[tuple[Debt, DebtExpectations]]


def check_without_results(request: GateRequest) -> GateResult | None:
    """Check a launch that needs no results, or whose budget does not say where they are; None: needs results.

    Neither reads an evaluation nor loads anything heavy.
    """
    notes = list(_debt_findings(request))
    if request.gate is not None and (request.to_be_covered or request.gate.deltas):
        return None
    if not request.to_be_covered:
        return _result(request, notes, _nothing_enforced(request))
    gone = Finding(
        rule=GateRule.NO_RESULTS,
        effect=Effect.BLOCK,
        message=f"{request.service} has eval debt and its budget does not say where evaluations leave their"
        " results: add `launch_gate: {results: ...}` to it or to defaults.yaml",
    )
    return _result(request, [*notes, gone], "")


def check_launch(request: GateRequest, open_engine: OpenEngine) -> GateResult:
    """Check a launch by its evaluation results. Loads Great Expectations: for the gate's own process."""
    early = check_without_results(request)
    if early is not None:
        return early
    gate = request.gate
    assert gate is not None
    findings = list(_debt_findings(request))
    files, found = _files(request)
    findings += found
    suite, results = EMPTY_SUITE, None
    try:
        suite = build_suite(files, _own_deltas(gate), request.release, request.baseline)
        data = load_results(gate, request.release, request.baseline, open_engine)
        results = data.results
        findings += _of_results(suite, data, request)
    except EvalError as error:
        rule = GateRule.MISSING_COLUMN if isinstance(error, MissingColumnError) else GateRule.NO_RESULTS
        findings.append(Finding(rule=rule, effect=Effect.BLOCK, message=str(error)))
    return _result(request, findings, _pass_reason(request, suite), suite, results)


def _of_results(suite: Suite, data: GateData, request: GateRequest) -> list[Finding]:
    """Return the findings about the candidate in the results. Raises EvalError."""
    debts = {debt.fingerprint: debt for debt in request.enforced}
    rows = data.results.of(request.release)
    if rows:
        found = findings_of(suite, _run(suite, data), debts, request.release)
        return [*found, *other_inputs(suite, rows, debts)]
    message = f"no evaluation of {request.release} in {data.results.origin}: the evaluator has not run for it"
    return [Finding(rule=GateRule.NOT_EVALUATED, effect=Effect.BLOCK, message=message)]


def _run(suite: Suite, data: GateData) -> Sequence[ExpectationOutcome]:
    if not suite.checks:
        return ()
    try:
        from rollback_budget.gate.gx_run import run_suite
    except ModuleNotFoundError as error:
        raise EvalError(
            f"the launch gate needs {error.name}: pip install 'rollback-budget[gate]' where tasks run"
        ) from error
    return run_suite(suite.checks, data)


def _debt_findings(request: GateRequest) -> Iterator[Finding]:
    """Yield the findings from the ledger alone: debts that are overdue, and those that are waived."""
    for debt in request.debts:
        if debt.is_overdue(request.at) and debt.severity is not Severity.MINOR:
            days = plural((request.at - debt.due_at).days, "day")
            message = f"this {debt.severity.value} debt was due {days} ago; pay it with a proof, or waive it"
            yield debt_finding(debt, GateRule.OVERDUE, Effect.BLOCK, message)
        elif debt.is_owed and debt.waiver is not None and debt.is_waived(request.at):
            waiver = debt.waiver
            message = f"waived by {waiver.by} until {waiver.until:%Y-%m-%d %H:%M} UTC: {waiver.reason}"
            yield debt_finding(debt, GateRule.WAIVED, Effect.NOTE, message)


def _files(request: GateRequest) -> tuple[_Files, list[Finding]]:
    """Return the expectations of every enforced debt, and the findings about their files."""
    cases, folder = CaseFolder(request.cases_folder), GateFolder(request.gate_folder)
    findings: list[Finding] = []
    files: _Files = []
    try:
        stored = folder.read()
    except EvalError as error:
        return [], [Finding(rule=GateRule.UNREADABLE, effect=Effect.BLOCK, message=str(error))]
    for debt in request.enforced:
        try:
            today = compile_debt(debt, cases, request.gate, request.budgets)
        except CaseError as error:
            findings.append(debt_finding(debt, GateRule.UNREADABLE, Effect.BLOCK, str(error)))
            continue
        file = stored.get(debt.fingerprint, today)
        if changed := _changed(file, today):
            findings.append(debt_finding(debt, GateRule.DATA_CHANGED, Effect.BLOCK, changed))
        if file.expectations:
            files.append((debt, file))
        elif debt in request.to_be_covered:
            findings.append(_not_covered(debt))
    if request.to_be_covered and not files:
        message = (
            f"{request.service} has {plural(len(request.to_be_covered), 'eval debt')} and not one expectation"
            f" for {request.release}: approve the cases of the debt, or waive it"
        )
        findings.append(Finding(rule=GateRule.NOTHING_EXPECTED, effect=Effect.BLOCK, message=message))
    return files, findings


def _changed(file: DebtExpectations, today: DebtExpectations) -> str | None:
    """Return how the case file differs from the one that was compiled; None when it does not."""
    again = "; look at the difference, then run `rollback-budget gate compile`"
    if file.cases != today.cases:
        cases = file.cases or today.cases
        assert cases is not None
        return f"the cases in {cases.file} are not those that its expectations were made of{again}"
    if file.cases is None:
        return None
    roles = {expected.role: expected for expected in file.expectations if expected.role is not None}
    if not {PRESENT, JUDGED, PASS} <= set(roles):
        return f"expectations about the cases in {file.cases.file} were taken out{again}"
    listed = roles[PRESENT].kwargs.get("value_set")
    if not isinstance(listed, list) or set(map(str, listed)) != set(file.cases.inputs):
        return f"the expectations name other cases than {file.cases.file} holds{again}"
    return None


def _not_covered(debt: Debt) -> Finding:
    severity = SEVERITIES[debt.severity]
    due = f"{debt.due_at:%Y-%m-%d}"
    return debt_finding(
        debt,
        GateRule.NOT_COVERED,
        EFFECTS[severity],
        f"no approved eval case yet, so nothing would notice it again; due {due}",
    )


def _own_deltas(gate: LaunchGate) -> list[Expected]:
    found = []
    for delta in gate.deltas:
        measure = gate.measure(delta.measure)
        if measure is None:
            raise EvalError(f"nothing measures {delta.measure!r}: add it to `launch_gate.measures`")
        rule = DeltaRule(
            measure=delta.measure,
            column=measure.column,
            quantile=measure.quantile,
            comparison=delta.comparison,
            threshold=delta.threshold,
            worse=delta.worse,
            slice=delta.slice,
            min_rows=delta.min_rows or gate.min_rows,
        )
        found.append(delta_expectation(rule, delta.severity))
    return found


def _nothing_enforced(request: GateRequest) -> str:
    if request.debts:
        return f"every eval debt of {request.service} is waived, a duplicate, or that of a bypass"
    return f"{request.service} has no eval debt: there is nothing to check"


def _pass_reason(request: GateRequest, suite: Suite) -> str:
    deltas = sum(check.kind is Kind.DELTA for check in suite.checks)
    return (
        f"{request.release} meets the expectations of {plural(len(request.enforced), 'eval debt')}:"
        f" {plural(len(suite.cases), 'case')} and {plural(deltas, 'delta')}"
    )


def _result(
    request: GateRequest,
    findings: Sequence[Finding],
    well: str,
    suite: Suite = EMPTY_SUITE,
    results: Results | None = None,
) -> GateResult:
    verdict = verdict_of(findings)
    reason = well
    if verdict is not GateVerdict.PASS:
        effect = Effect(verdict.value)
        decisive = [finding for finding in findings if finding.effect is effect]
        more = f", and {len(decisive) - 1} more" if len(decisive) > 1 else ""
        reason = f"{decisive[0].message}{more}"
    if request.bypass is not None and verdict is not GateVerdict.PASS:
        verdict = GateVerdict.PASS
        reason = f"launched past the gate by {request.bypass.by} ({request.bypass.reason}), although {reason}"
    return GateResult(
        verdict=verdict,
        service=request.service,
        release=request.release,
        baseline=request.baseline,
        at=request.at,
        reason=reason,
        findings=tuple(findings),
        debts=len(request.enforced),
        cases=len(suite.cases),
        deltas=sum(check.kind is Kind.DELTA for check in suite.checks),
        others=sum(check.kind is Kind.OTHER for check in suite.checks),
        origin=None if results is None else results.origin,
        digest=None if results is None else results.digest,
        bypass=request.bypass,
    )
