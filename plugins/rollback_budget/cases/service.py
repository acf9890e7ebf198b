"""Keeping cases: the files and the ledger are changed together, and what people wrote is never lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.draft import Origin, draft, merge, stub
from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cases.jsonl import read_file
from rollback_budget.cases.query import FailureQuery, question_of
from rollback_budget.exceptions import CaseError, SourceError
from rollback_budget.ledger.debt_views import CaseEntry, CaseState, Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedBreach, Rollout
from rollback_budget.model.case_source import Cases
from rollback_budget.model.spec import RolloutSpec

#: Reads the failing requests of a rollout; raises SourceError or CaseError. None: it has no source of cases.
Read = Callable[[Rollout, FailureQuery], list[FailedRequest]]


@dataclass(frozen=True, slots=True)
class Drafted:
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
    read: Read,
    *,
    by: str,
    at: datetime,
    patient: bool = True,
    spec: RolloutSpec | None = None,
) -> Drafted:
    """Draft cases from the requests of a debt's newest breach, and move the debt to ``drafted``.

    A source that cannot be reached raises, so that the task is tried again; one that refuses, or answers
    without content, and a budget without one, leave a stub that says what to bring.

    :param spec: read as this one says, instead of the one that the breached rollout was frozen with.
    :param patient: False for a last try: a source that cannot be reached then leaves a stub, too.
    :raises CaseError: the case file cannot be read or written, or its source is not well described.
    :raises SourceError: the source did not answer.
    """
    breaches = ledger.debt_breaches(debt.fingerprint, limit=1)
    if not breaches:
        origin, settings = Origin(debt.fingerprint, debt.slice or debt.service), Cases()
        return _keep(ledger, folder, debt, [], origin, settings, by, at, "No breach made this debt.")
    logged = breaches[0]
    rollout = ledger.rollout(logged.key)
    if rollout is not None and spec is not None:
        rollout = replace(rollout, spec=spec)
    settings = Cases() if rollout is None else rollout.spec.cases
    requests, why = _read(rollout, logged, read, patient=patient)
    origin = Origin(logged.fingerprint, logged.release)
    return _keep(ledger, folder, debt, requests, origin, settings, by, at, why)


def draft_requests(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    requests: Sequence[FailedRequest],
    *,
    by: str,
    at: datetime,
    settings: Cases | None = None,
    every: bool = False,
) -> Drafted:
    """Draft cases from requests that a person brings; raises CaseError.

    :param settings: by default those of the newest breached rollout.
    :param every: make a case of each, also of those that were removed, instead of choosing.
    """
    breaches = ledger.debt_breaches(debt.fingerprint, limit=1)
    origin = Origin(debt.fingerprint, debt.slice or debt.service)
    if breaches:
        rollout = ledger.rollout(breaches[0].key)
        origin = Origin(breaches[0].fingerprint, breaches[0].release)
        if settings is None and rollout is not None:
            settings = rollout.spec.cases
    fresh = draft(debt, origin, requests, settings or Cases(), limit=len(requests) if every else None)
    return _store(ledger, folder, debt, fresh, by, at, None, brought=every)


def settle_cases(ledger: Ledger, folder: CaseFolder, debt: Debt, *, by: str, at: datetime) -> Debt:
    """Tell the ledger how a debt's cases stand, and move it forward; return the debt afterwards.

    A stub alone is no draft: the debt stays where it is.
    """
    cases = folder.cases_of(debt)
    ledger.index_cases([_entry(case, at) for case in cases])
    if not debt.is_owed:
        return debt
    real = [case for case in cases if case.missing is None]
    if not real:
        return debt
    said = f"{len(real)} case(s)"
    debt = ledger.advance_state(debt.fingerprint, DebtState.DRAFTED, by=by, at=at, detail=said)
    if all(case.is_approved for case in real):
        debt = ledger.advance_state(debt.fingerprint, DebtState.APPROVED, by=by, at=at, detail=said)
    return debt


def settle_folder(ledger: Ledger, folder: CaseFolder, *, by: str, at: datetime) -> list[Debt]:
    """Tell the ledger what people changed in the case files; return the debts that it concerns.

    A file that cannot be read is left for the gate, and for whoever asks for its debt, to complain about.
    """
    debts = {debt.fingerprint: debt for debt in ledger.debts() if debt.is_owed}
    changed: list[Debt] = []
    for file in folder.files():
        with suppress(CaseError):
            cases = read_file(file)
            debt = debts.get(cases[0].debt) if cases else None
            if debt is None or any(case.debt != debt.fingerprint for case in cases):
                continue
            known = {entry.case_id: entry.state for entry in ledger.case_entries(debt.fingerprint)}
            if any(known.get(case.id) is not _entry(case, at).state for case in cases):
                changed.append(settle_cases(ledger, folder, debt, by=by, at=at))
    return changed


def _read(
    rollout: Rollout | None, logged: LoggedBreach, read: Read, *, patient: bool
) -> tuple[list[FailedRequest], str | None]:
    if rollout is None or rollout.spec.cases.source is None:
        return [], "The budget file names no source of failing requests (`cases.source`)."
    question = question_of(logged, rollout)
    window = f"{question.start:%Y-%m-%d %H:%M:%S} to {question.end:%Y-%m-%d %H:%M:%S} UTC"
    try:
        requests = read(rollout, question)
    except SourceError as error:
        if patient and error.transient:
            raise
        return [], f"The source of failing requests did not answer ({error})."
    if not requests:
        return [], f"The source holds no request that failed from {window}."
    if not any(request.has_content for request in requests):
        return (
            [],
            f"{len(requests)} request(s) failed from {window}, and the source keeps no content of them.",
        )
    return requests, None


def _keep(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    requests: Sequence[FailedRequest],
    origin: Origin,
    settings: Cases,
    by: str,
    at: datetime,
    why: str | None,
) -> Drafted:
    fresh = draft(debt, origin, requests, settings) if why is None else [stub(debt, origin, why)]
    return _store(ledger, folder, debt, fresh, by, at, why, brought=False)


def _store(
    ledger: Ledger,
    folder: CaseFolder,
    debt: Debt,
    fresh: Sequence[EvalCase],
    by: str,
    at: datetime,
    why: str | None,
    *,
    brought: bool,
) -> Drafted:
    with folder.editing():
        there = folder.cases_of(debt)
        # A file that is not there is another checkout, not one that somebody emptied.
        drafted = {entry.case_id for entry in ledger.case_entries(debt.fingerprint)} if there else set()
        removed = drafted - {case.id for case in there}
        kept = merge(there, fresh, approved=approved_cases(folder), removed=() if brought else removed)
        file = folder.write(debt, kept)
        moved = settle_cases(ledger, folder, debt, by=by, at=at)
    before = {case.id for case in there}
    return Drafted(moved, file, tuple(case.id for case in kept if case.id not in before), len(kept), why)


def approved_cases(folder: CaseFolder) -> dict[str, EvalCase]:
    """Return the cases of all debts that have an expectation, by their id.

    Left out are those that two debts expect to be answered in two ways, and files that cannot be read: the
    export, the gate and their own debts say so.
    """
    found: dict[str, EvalCase] = {}
    disputed: set[str] = set()
    for file in folder.files():
        with suppress(CaseError):
            for case in read_file(file):
                if case.expectation is None:
                    continue
                other = found.setdefault(case.id, case)
                if not is_same(case, other):
                    disputed.add(case.id)
    return {id_: case for id_, case in found.items() if id_ not in disputed}


def is_same(one: EvalCase, other: EvalCase) -> bool:
    """Whether two lines of one case ask the same and expect the same."""
    if one.expectation is None or other.expectation is None:
        return one.input == other.input and one.expectation is other.expectation
    mine, theirs = one.expectation, other.expectation
    return (one.input, mine.kind, mine.value) == (other.input, theirs.kind, theirs.value)


def _entry(case: EvalCase, at: datetime) -> CaseEntry:
    expectation = case.expectation
    if expectation is None:
        return CaseEntry(case.debt, case.id, CaseState.DRAFT, at)
    return CaseEntry(
        case.debt, case.id, CaseState.APPROVED, at, expectation.approved_at, expectation.approved_by
    )
