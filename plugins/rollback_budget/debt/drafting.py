"""The cases of a debt: files and ledger are changed together, and edits by people are never lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rollback_budget.cases.approved import approved_cases
from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.draft import Origin, draft, merge, stub
from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cases.jsonl import read_file
from rollback_budget.cases.query import FailureQuery, failure_query_of
from rollback_budget.debt.changes import advance_state
from rollback_budget.exceptions import CaseError, SourceError
from rollback_budget.ledger.debt_views import CaseEntry, CaseState, Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedBreach, Rollout
from rollback_budget.model.case_source import Cases
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.text import plural

#: Reads the failing requests of a rollout; raises SourceError or CaseError. None: it has no source of cases.
ReadFailures = Callable[[Rollout, FailureQuery], list[FailedRequest]]


@dataclass(frozen=True, slots=True)
class DraftResult:
    """What drafting one debt did.

    :param added: ids of the new cases; ``there`` counts all that the file now holds.
    :param why: why no request could be read, where none could.
    """

    debt: Debt
    file: Path
    added: tuple[str, ...]
    there: int
    why: str | None = None


def draft_debt(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    read: ReadFailures,
    *,
    by: str,
    at: datetime,
    retry: bool = True,
    spec: RolloutSpec | None = None,
) -> DraftResult:
    """Draft cases from the requests of a debt's newest breach, and move the debt to ``drafted``.

    A source that cannot be reached raises, so that the task is tried again; one that refuses, or answers
    without content, and a budget without one, leave a stub that says what to bring.

    :param spec: read as this one says, instead of the one that the breached rollout was frozen with.
    :param retry: False for the last attempt: a source that cannot be reached then leaves a stub, too.
    :raises CaseError: the case file cannot be read or written, or its source is not well described.
    :raises SourceError: the source did not answer.
    """
    breaches = ledger.breaches.of_debt(debt.fingerprint, limit=1)
    if not breaches:
        origin, settings = Origin(debt.fingerprint, debt.slice or debt.service), Cases()
        return _draft_and_store(
            ledger, folder, debt, [], origin, settings, by, at, "No breach made this debt."
        )
    logged = breaches[0]
    rollout = ledger.rollouts.get(logged.key)
    if rollout is not None and spec is not None:
        rollout = replace(rollout, spec=spec)
    settings = Cases() if rollout is None else rollout.spec.cases
    requests, why = _read_requests(rollout, logged, read, retry=retry)
    origin = Origin(logged.fingerprint, logged.release)
    return _draft_and_store(ledger, folder, debt, requests, origin, settings, by, at, why)


def draft_requests(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    requests: Sequence[FailedRequest],
    *,
    by: str,
    at: datetime,
    settings: Cases | None = None,
    keep_all: bool = False,
) -> DraftResult:
    """Draft cases from requests that a person uploads; raises CaseError.

    :param settings: by default those of the newest breached rollout.
    :param keep_all: make a case of each request, also of removed ones, instead of a selection.
    """
    breaches = ledger.breaches.of_debt(debt.fingerprint, limit=1)
    origin = Origin(debt.fingerprint, debt.slice or debt.service)
    if breaches:
        rollout = ledger.rollouts.get(breaches[0].key)
        origin = Origin(breaches[0].fingerprint, breaches[0].release)
        if settings is None and rollout is not None:
            settings = rollout.spec.cases
    drafted = draft(debt, origin, requests, settings or Cases(), limit=len(requests) if keep_all else None)
    return _store(ledger, folder, debt, drafted, by, at, None, uploaded=keep_all)


def sync_cases(ledger: Ledger, folder: CaseFolder, debt: Debt, *, by: str, at: datetime) -> Debt:
    """Write the state of a debt's cases to the ledger, and advance the debt; return the updated debt.

    A stub alone is no draft: the debt stays where it is.
    """
    cases = folder.cases_of(debt)
    ledger.cases.index([_entry(case, at) for case in cases])
    if not debt.is_owed:
        return debt
    real = [case for case in cases if case.missing is None]
    if not real:
        return debt
    detail = plural(len(real), "case")
    debt = advance_state(ledger.debts, debt.fingerprint, DebtState.DRAFTED, by=by, at=at, detail=detail)
    if all(case.is_approved for case in real):
        debt = advance_state(ledger.debts, debt.fingerprint, DebtState.APPROVED, by=by, at=at, detail=detail)
    return debt


def sync_folder(ledger: Ledger, folder: CaseFolder, *, by: str, at: datetime) -> list[Debt]:
    """Write to the ledger what people changed in the case files; return the debts that changed.

    A file that cannot be read is skipped here: the gate, and the commands about its debt, report it.
    """
    debts = {debt.fingerprint: debt for debt in ledger.debts.every() if debt.is_owed}
    changed: list[Debt] = []
    for file in folder.files():
        with suppress(CaseError):
            cases = read_file(file)
            debt = debts.get(cases[0].debt) if cases else None
            if debt is None or any(case.debt != debt.fingerprint for case in cases):
                continue
            known = {entry.case_id: entry.state for entry in ledger.cases.of(debt.fingerprint)}
            if any(known.get(case.id) is not _entry(case, at).state for case in cases):
                changed.append(sync_cases(ledger, folder, debt, by=by, at=at))
    return changed


def _read_requests(
    rollout: Rollout | None, logged: LoggedBreach, read: ReadFailures, *, retry: bool
) -> tuple[list[FailedRequest], str | None]:
    if rollout is None or rollout.spec.cases.source is None:
        return [], "The budget file names no source of failing requests (`cases.source`)."
    question = failure_query_of(logged, rollout)
    window = f"{question.start:%Y-%m-%d %H:%M:%S} to {question.end:%Y-%m-%d %H:%M:%S} UTC"
    try:
        requests = read(rollout, question)
    except SourceError as error:
        if retry and error.transient:
            raise
        return [], f"The source of failing requests did not answer ({error})."
    if not requests:
        return [], f"The source holds no request that failed from {window}."
    if not any(request.has_content for request in requests):
        return (
            [],
            f"{plural(len(requests), 'request')} failed from {window}, and the source keeps no content.",
        )
    return requests, None


def _draft_and_store(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    requests: Sequence[FailedRequest],
    origin: Origin,
    settings: Cases,
    by: str,
    at: datetime,
    why: str | None,
) -> DraftResult:
    drafted = draft(debt, origin, requests, settings) if why is None else [stub(debt, origin, why)]
    return _store(ledger, folder, debt, drafted, by, at, why, uploaded=False)


def _store(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    new: Sequence[EvalCase],
    by: str,
    at: datetime,
    why: str | None,
    *,
    uploaded: bool,
) -> DraftResult:
    with folder.editing():
        existing = folder.cases_of(debt)
        # A missing file means another checkout, not that a person removed every case.
        known = {entry.case_id for entry in ledger.cases.of(debt.fingerprint)} if existing else set()
        removed = known - {case.id for case in existing}
        merged = merge(existing, new, approved=approved_cases(folder), removed=() if uploaded else removed)
        file = folder.write(debt, merged)
        updated_debt = sync_cases(ledger, folder, debt, by=by, at=at)
    before = {case.id for case in existing}
    return DraftResult(
        updated_debt, file, tuple(case.id for case in merged if case.id not in before), len(merged), why
    )


def _entry(case: EvalCase, at: datetime) -> CaseEntry:
    expectation = case.expectation
    if expectation is None:
        return CaseEntry(case.debt, case.id, CaseState.DRAFT, at)
    return CaseEntry(
        case.debt, case.id, CaseState.APPROVED, at, expectation.approved_at, expectation.approved_by
    )
