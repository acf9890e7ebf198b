"""Drafting: from failing requests to the cases of a debt, merged with the cases that it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from rollback_budget.cases.case import EvalCase, Provenance
from rollback_budget.cases.case_id import case_id, normalised, sha256
from rollback_budget.cases.failed_request import FailedRequest
from rollback_budget.cases.jsonl import write_json
from rollback_budget.cases.redact import Redactor
from rollback_budget.cases.sampling import select_diverse
from rollback_budget.cases.truncate import truncate
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.model.case_source import Cases

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """The breach that requests come from; without one, the debt that they are uploaded for."""

    breach: str
    release: str


def draft(
    debt: Debt,
    origin: Origin,
    requests: Sequence[FailedRequest],
    settings: Cases,
    *,
    limit: int | None = None,
) -> list[EvalCase]:
    """Return cases for a diverse selection of the requests, redacted and truncated.

    Requests without content are left out.

    :param limit: how many; by default as many as ``settings`` say.
    :raises CaseError: nothing can be redacted, because a library for it is missing.
    """
    redactor = Redactor(settings.redact)
    distinct: dict[str, FailedRequest] = {}
    for request in requests:
        if request.has_content:
            distinct.setdefault(write_json([normalised(request.input), request.slice]), request)
    chosen = select_diverse(
        list(distinct.values()),
        settings.limit if limit is None else limit,
        slice_of=lambda request: request.slice,
        text_of=lambda request: (
            request.input if isinstance(request.input, str) else write_json(request.input)
        ),
    )
    # Requests that differ only in what was redacted are one case.
    cases = (_case(debt, origin, request, redactor, settings.longest) for request in chosen)
    return list({case.id: case for case in cases}.values())


def stub(debt: Debt, origin: Origin, why: str) -> EvalCase:
    """Return a stub: the case that says what to upload, where there is no content."""
    return EvalCase(
        id=f"case-{sha256(['stub', debt.fingerprint])[:20]}",
        debt=debt.fingerprint,
        metric=debt.metric,
        slice=debt.slice,
        provenance=Provenance(breach=origin.breach, release=origin.release),
        missing=(
            f"{why} Bring requests of {origin.release} that failed by {debt.budget}, one JSON object a line"
            f' ({{"input": "...", "output": "..."}}): rollback-budget debt add-case {debt.fingerprint[:16]}'
            " --from FILE"
        ),
    )


def merge(
    existing: Iterable[EvalCase],
    new: Iterable[EvalCase],
    *,
    approved: Mapping[str, EvalCase] | None = None,
    removed: Collection[str] = (),
) -> list[EvalCase]:
    """Return the cases of a debt after drafting.

    Existing cases stay as people left them. A stub is removed once there is a real case.

    :param approved: cases with an expectation, in other debts too: the same question has the same answer.
    :param removed: ids that people took out of the file; drafting does not bring them back.
    """
    cases = {case.id: case for case in existing}
    for case in new:
        if case.id in cases or case.id in removed:
            continue
        known = (approved or {}).get(case.id)
        expectation = None if known is None or known.input != case.input else known.expectation
        cases[case.id] = case if expectation is None else case.model_copy(update={"expectation": expectation})
    if any(case.missing is None for case in cases.values()):
        cases = {id_: case for id_, case in cases.items() if case.missing is None}
    return sorted(cases.values(), key=lambda case: case.id)


def _case(debt: Debt, origin: Origin, request: FailedRequest, redactor: Redactor, longest: int) -> EvalCase:
    input_, output = redactor.redact(request.input), redactor.redact(request.output)
    metadata = redactor.redact(dict(request.metadata))
    slice_ = debt.slice if request.slice is None else redactor.text(request.slice)[:_LONGEST_NAME]
    kept: dict[str, JsonValue] = {}
    left_out: dict[str, JsonValue] = {}
    for name, value in (("input", input_), ("output", output), ("metadata", metadata)):
        kept[name], missing = truncate(value, longest)
        if missing:
            left_out[name] = missing
    further = kept["metadata"] if isinstance(kept["metadata"], dict) else {"metadata": kept["metadata"]}
    if left_out:
        further = {**further, "characters_left_out": left_out}
    return EvalCase(
        id=case_id(input_, debt.metric, slice_),
        debt=debt.fingerprint,
        metric=debt.metric,
        slice=slice_,
        input=kept["input"],
        breached_output=kept["output"],
        provenance=Provenance(
            breach=origin.breach,
            release=origin.release,
            trace_id=None if request.trace_id is None else request.trace_id[:_LONGEST_NAME],
            asked_at=request.time,
            content_sha256=sha256([input_, output]),
        ),
        metadata=further,
    )
