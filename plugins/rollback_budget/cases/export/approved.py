"""What is exported: every approved case once, however many debts it stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from rollback_budget.cases.approved import asks_the_same
from rollback_budget.cases.case import EvalCase, Expectation
from rollback_budget.cases.case_id import sha256
from rollback_budget.cases.failed_request import is_chat
from rollback_budget.cases.jsonl import write_json
from rollback_budget.exceptions import CaseError


@dataclass(frozen=True, slots=True)
class ApprovedCase:
    """A case with its expectation, and the fingerprints of the debts that it belongs to."""

    case: EvalCase
    expectation: Expectation
    debts: tuple[str, ...]

    @property
    def input_text(self) -> str:
        """The input as one text; chat messages and other JSON as JSON."""
        return self.case.input if isinstance(self.case.input, str) else write_json(self.case.input)

    @property
    def is_chat(self) -> bool:
        """Whether the input is a list of chat messages."""
        return is_chat(self.case.input)

    def metadata(self) -> dict[str, JsonValue]:
        """Return what an evaluator carries from the case to its results."""
        case, provenance = self.case, self.case.provenance
        said: dict[str, JsonValue] = {
            "case_id": case.id,
            "input_sha256": sha256(case.input),
            "metric": case.metric,
            "slice": case.slice,
            "debts": list(self.debts),
            "breach": provenance.breach,
            "breached_release": provenance.release,
            "trace_id": provenance.trace_id,
            "content_sha256": provenance.content_sha256,
            "approved_by": self.expectation.approved_by,
            "approved_at": self.expectation.approved_at.isoformat(),
            "case": dict(case.metadata) or None,
        }
        return {key: value for key, value in said.items() if value is not None}

    def record(self) -> dict[str, JsonValue]:
        """Return the whole of what an exported file says of a case."""
        return {
            "id": self.case.id,
            "input": self.case.input,
            "expectation": {"kind": self.expectation.kind.value, "value": self.expectation.value},
            "metadata": self.metadata(),
        }


def approved_only(
    cases: Mapping[str, Iterable[EvalCase]], *, skip_drafts: bool = False
) -> list[ApprovedCase]:
    """Return the approved cases in the order of their ids.

    :param cases: by the fingerprint of their debt.
    :param skip_drafts: leave out what is not approved, instead of refusing it.
    :raises CaseError: a case has no approved expectation, is a stub, or means two things; names every one.
    """
    found: dict[str, ApprovedCase] = {}
    problems: list[str] = []
    for debt, each in sorted(cases.items()):
        for case in each:
            if case.expectation is None or case.missing is not None:
                what = "is a stub without content" if case.missing else "has no approved expectation"
                problems += [] if skip_drafts else [f"{case.id} of debt {debt[:16]} {what}"]
                continue
            other = found.get(case.id)
            if other is None:
                found[case.id] = ApprovedCase(case, case.expectation, (debt,))
                continue
            if not asks_the_same(case, other.case):
                both = f"{other.debts[0][:16]} and {debt[:16]}"
                problems.append(f"{case.id} is not the same case in the debts {both}")
            found[case.id] = replace(other, debts=(*other.debts, debt))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise CaseError(
            f"nothing is exported, because a case without approval proves nothing:\n{listed}\n"
            "Approve them: rollback-budget debt approve FINGERPRINT CASE ... Or leave them out: --skip-drafts"
        )
    if not found:
        raise CaseError("nothing is exported: there is no approved case. See: rollback-budget debt list")
    return [found[id_] for id_ in sorted(found)]
