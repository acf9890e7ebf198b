"""The result of the launch gate: its findings, and the verdict pass, ask or block."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime

from rollback_budget.ledger.debt_views import Debt
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Severity


class GateVerdict(StrEnum):
    """What becomes of a launch."""

    PASS = "pass"  # noqa: S105 - a word of the gate
    ASK = "ask"
    BLOCK = "block"


class Effect(StrEnum):
    """What one finding leads to."""

    NOTE = "note"
    ASK = "ask"
    BLOCK = "block"


class GateRule(StrEnum):
    """Which rule of the gate a finding is about."""

    NO_RESULTS = "no_results"
    NOT_EVALUATED = "not_evaluated"
    MISSING_COLUMN = "missing_column"
    NOTHING_EXPECTED = "nothing_expected"
    UNKNOWN_EXPECTATION = "unknown_expectation"
    UNREADABLE = "unreadable"
    DATA_CHANGED = "data_changed"
    INPUT_CHANGED = "input_changed"
    CASE_MISSING = "case_missing"
    CASE_CRASHED = "case_crashed"
    CASE_FAILED = "case_failed"
    DELTA = "delta"
    EXPECTATION = "expectation"
    OVERDUE = "overdue"
    NOT_COVERED = "not_covered"
    WAIVED = "waived"


#: What a failed expectation leads to, by its severity in Great Expectations' words.
EFFECTS = {"critical": Effect.BLOCK, "warning": Effect.ASK, "info": Effect.NOTE}
#: The severity of a debt in those words.
SEVERITIES = {Severity.CRITICAL: "critical", Severity.MAJOR: "warning", Severity.MINOR: "info"}


class Finding(Frozen):
    """One finding of the gate.

    :param message: a sentence for people: what is wrong, and what to do.
    :param case_id: the eval case, where it is about one.
    :param debt: fingerprint of the eval debt, where it is about one.
    :param breach: the budget that was breached, and when it last was.
    :param ticket: key and address of the debt's ticket, as far as they are known.
    """

    rule: GateRule
    effect: Effect
    message: str
    case_id: str | None = None
    debt: str | None = None
    breach: str | None = None
    ticket: str | None = None
    ticket_url: str | None = None


class BypassNote(Frozen):
    """Who launched past a gate that blocks, and why."""

    by: str
    reason: str
    at: AwareDatetime


class Approval(Frozen):
    """The incident commander's answer; ``by`` is None when there was none in time."""

    ships: bool
    by: str | None
    reason: str | None
    at: AwareDatetime


class GateResult(Frozen):
    """The result of the gate for one launch.

    :param reason: why, in one sentence.
    :param debts: how many debts were enforced; waived ones and duplicates are not.
    :param cases: how many eval cases of theirs were looked at; ``deltas`` and ``others`` count expectations.
    :param origin: where the results were read; None when none were.
    :param digest: SHA-256 (hex) of the results.
    :param approval: the commander's answer, once there is one.
    """

    verdict: GateVerdict
    service: str
    release: str
    baseline: str
    at: AwareDatetime
    reason: str
    findings: tuple[Finding, ...] = ()
    debts: int = 0
    cases: int = 0
    deltas: int = 0
    others: int = 0
    origin: str | None = None
    digest: str | None = None
    bypass: BypassNote | None = None
    approval: Approval | None = None

    @property
    def ships(self) -> bool:
        """Whether the release may get traffic."""
        if self.approval is not None:
            return self.approval.ships
        return self.verdict is GateVerdict.PASS


def debt_finding(
    debt: Debt,
    rule: GateRule,
    effect: Effect,
    message: str,
    case_id: str | None = None,
    at: datetime | None = None,
) -> Finding:
    """Return a finding about a debt, with what people need to look it up."""
    seen = at or debt.last_breach_at
    ticket = debt.ticket
    return Finding(
        rule=rule,
        effect=effect,
        message=message,
        case_id=case_id,
        debt=debt.fingerprint,
        breach=f"{debt.budget} on {seen:%Y-%m-%d}",
        ticket=None if ticket is None else ticket.key,
        ticket_url=None if ticket is None else ticket.url,
    )


def verdict_of(findings: Iterable[Finding]) -> GateVerdict:
    """Return the verdict: the effect of the most severe finding."""
    effects = {finding.effect for finding in findings}
    if Effect.BLOCK in effects:
        return GateVerdict.BLOCK
    return GateVerdict.ASK if Effect.ASK in effects else GateVerdict.PASS
