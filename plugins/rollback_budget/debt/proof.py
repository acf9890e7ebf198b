"""The red-green proof: the debt's cases fail on the breached release and pass on the candidate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.case_id import sha256
from rollback_budget.debt.lifecycle import BYPASS_AREA, BYPASS_METRIC
from rollback_budget.evals.result import CaseResult, Results
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, ProofRecord
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.text import plural

_OWED_ANEW = frozenset({DebtEventKind.DETECTED, DebtEventKind.REOPENED})


@dataclass(frozen=True, slots=True)
class ProofRule:
    """How often a case must fail and pass, where it is asked several times.

    :param red: failures that the breached release must show, at the least.
    :param green: passes that the candidate must show, at the least; None means every run.
    """

    red: int = 1
    green: int | None = None


@dataclass(frozen=True, slots=True)
class Runs:
    """One case on one release; ``crashed`` counts the runs without a result."""

    passed: int
    failed: int
    crashed: int

    @property
    def total(self) -> int:
        """How often it was asked."""
        return self.passed + self.failed + self.crashed

    def say(self, *, failures: bool) -> str:
        """Return how many runs passed, or failed, for people."""
        if not self.total:
            return "not asked"
        counted = (
            f"{self.failed} of {self.total} failed" if failures else f"{self.passed} of {self.total} passed"
        )
        return f"{counted}, {self.crashed} crashed" if self.crashed else counted


@dataclass(frozen=True, slots=True)
class CaseProof:
    """What the results say of one approved case.

    :param reasons: why it proves nothing; empty when it is red, green and the case that was approved.
    """

    case_id: str
    breached: Runs
    candidate: Runs
    is_red: bool
    is_green: bool
    is_in_data_set: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """A judged proof.

    :param reasons: why the whole is refused, besides the reasons of its cases.
    :param left_out: cases without an approved expectation, which prove nothing and are not counted.
    """

    debt_fingerprint: str
    cycle: int
    breached_release: str
    candidate_release: str
    rule: ProofRule
    cases: tuple[CaseProof, ...]
    left_out: tuple[str, ...]
    reasons: tuple[str, ...]
    digest: str

    @property
    def is_accepted(self) -> bool:
        """Whether it pays."""
        return not self.reasons and bool(self.cases) and not any(case.reasons for case in self.cases)

    def every_reason(self) -> list[str]:
        """Return each reason for refusing it, in one sentence."""
        return [
            *self.reasons,
            *(f"{case.case_id}: {reason}" for case in self.cases for reason in case.reasons),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts and the ledger."""
        return {**asdict(self), "accepted": self.is_accepted, "every_reason": self.every_reason()}

    def record(self, by: str, at: datetime) -> ProofRecord:
        """Return it as the ledger keeps it."""
        return ProofRecord(
            debt_fingerprint=self.debt_fingerprint,
            cycle=self.cycle,
            digest=self.digest,
            breached_release=self.breached_release,
            candidate_release=self.candidate_release,
            accepted=self.is_accepted,
            by=by,
            at=at,
            proof=json.dumps(self.as_json(), sort_keys=True, ensure_ascii=False),
        )


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases on which a debt showed itself, each list with the newest first.

    :param red: since it was last owed anew; the cases must fail on one of these. A case that was red on the
        release of an earlier payment says nothing about what came back.
    :param ever: all of them; none of these can be the fix.
    :param baselines: what they were compared with.
    """

    red: tuple[str, ...]
    ever: tuple[str, ...]
    baselines: tuple[str, ...] = ()


def breached_releases(debt: Debt, breaches: Iterable[LoggedBreach], events: Sequence[DebtEvent]) -> Releases:
    """Return the releases on which a debt showed itself.

    :param breaches: of the debt, newest first.
    :param events: of the debt, so far.
    """
    if (debt.area, debt.metric) == (BYPASS_AREA, BYPASS_METRIC) and debt.slice is not None:
        return Releases((debt.slice,), (debt.slice,))
    logged = list(breaches)
    anew = [at for at, event in enumerate(events) if event.kind in _OWED_ANEW]
    current = {event.breach_fingerprint for event in events[max(anew, default=0) :]}
    return Releases(
        red=tuple(dict.fromkeys(one.release for one in logged if one.fingerprint in current)),
        ever=tuple(dict.fromkeys(one.release for one in logged)),
        baselines=tuple(dict.fromkeys(one.baseline for one in logged)),
    )


def judge(
    debt: Debt,
    cases: Sequence[EvalCase],
    breached: Results,
    candidate: Results,
    *,
    breached_release: str,
    candidate_release: str,
    releases: Releases,
    rule: ProofRule = ProofRule(),
) -> Proof:
    """Judge a proof: every approved case of the debt must be red, green, and still what was approved.

    :param cases: the debt's cases, drafts and stubs among them.
    """
    approved = [case for case in cases if case.is_approved and case.missing is None]
    judged = tuple(
        _judge_case(case, breached.of(breached_release), candidate.of(candidate_release), rule)
        for case in approved
    )
    return Proof(
        debt_fingerprint=debt.fingerprint,
        cycle=debt.cycle,
        breached_release=breached_release,
        candidate_release=candidate_release,
        rule=rule,
        cases=judged,
        left_out=tuple(case.id for case in cases if case not in approved),
        reasons=tuple(_whole(cases, approved, breached_release, candidate_release, releases)),
        digest=_digest(debt, approved, breached, candidate, breached_release, candidate_release, rule),
    )


def _whole(
    cases: Sequence[EvalCase],
    approved: Sequence[EvalCase],
    breached_release: str,
    candidate_release: str,
    releases: Releases,
) -> list[str]:
    reasons = []
    if not cases:
        reasons.append("the debt has no eval case; draft one from its failing requests, or add one")
    elif not approved:
        reasons.append(
            f"none of its {plural(len(cases), 'case')} has an approved expectation;"
            " drafts and stubs prove nothing"
        )
    if breached_release not in releases.red:
        reasons.append(
            f"{breached_release} is not a release on which this debt breached since it was last owed anew"
            f" ({', '.join(releases.red)})"
        )
    if candidate_release in releases.ever:
        reasons.append(f"the candidate {candidate_release} is itself a release on which this debt breached")
    return reasons


def _judge_case(
    case: EvalCase, breached: Sequence[CaseResult], candidate: Sequence[CaseResult], rule: ProofRule
) -> CaseProof:
    red_rows = [row for row in breached if row.case_id == case.id]
    green_rows = [row for row in candidate if row.case_id == case.id]
    red, green = _count(red_rows), _count(green_rows)
    is_red = red.failed >= rule.red
    enough = green.total if rule.green is None else rule.green
    is_green = green.total > 0 and green.passed >= enough
    reasons = []
    if not red.total:
        reasons.append("was not asked on the breached release")
    elif not is_red:
        reasons.append(
            f"is not red: failed {red.failed} of {red.total} runs on the breached release, {rule.red} needed"
        )
    if not green.total:
        reasons.append("was not asked on the candidate")
    elif not is_green:
        reasons.append(f"is not green: passed {green.passed} of {green.total} runs, {enough} needed")
    if green.total and green.total < red.total:
        reasons.append(
            f"was asked {red.total} times on the breached release and {green.total} on the candidate;"
            " ask it as often"
        )
    changed = _changed(case, [*red_rows, *green_rows])
    if changed is not None:
        reasons.append(changed)
    return CaseProof(
        case_id=case.id,
        breached=red,
        candidate=green,
        is_red=is_red,
        is_green=is_green,
        is_in_data_set=bool(red_rows and green_rows) and changed is None,
        reasons=tuple(reasons),
    )


def _count(rows: Sequence[CaseResult]) -> Runs:
    return Runs(
        passed=sum(row.passed is True for row in rows),
        failed=sum(row.passed is False for row in rows),
        crashed=sum(row.passed is None for row in rows),
    )


def _changed(case: EvalCase, rows: Sequence[CaseResult]) -> str | None:
    """Say why the results may be about another input than the one in the case file."""
    if any(row.input_sha256 is None for row in rows):
        return (
            "the results do not say which input was asked; keep its hash in them (`input_sha256`, which"
            " every export carries)"
        )
    if any(row.input_sha256 != sha256(case.input) for row in rows):
        return "another input was asked than stands in the case file; run the evaluation on today's cases"
    return None


def _digest(
    debt: Debt,
    approved: Sequence[EvalCase],
    breached: Results,
    candidate: Results,
    breached_release: str,
    candidate_release: str,
    rule: ProofRule,
) -> str:
    judged = [
        debt.fingerprint,
        debt.cycle,
        [case.document() for case in approved],
        [breached.digest, breached_release],
        [candidate.digest, candidate_release],
        asdict(rule),
    ]
    return hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()
