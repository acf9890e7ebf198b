"""What a ticket says, before any tracker's markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rollback_budget.ledger.debt_records import Debt
from rollback_budget.ledger.records import LoggedBreach

HOW_TO_PAY = (
    "Pre-release evaluation did not catch this, so a case that reproduces it is owed.",
    "It is paid by a red-green proof: an eval case that fails on the breached release, passes on the"
    " candidate, and is part of the launch gate's data set.",
    "Closing this ticket does not pay the debt.",
)


@dataclass(frozen=True, slots=True)
class Description:
    """The parts of a ticket; every string is data and must be escaped for the tracker's markup.

    :param facts: name and value, in reading order.
    :param breaches: one line each: when, in which rollout, and the sentence.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    breaches: tuple[tuple[str, str, str], ...]
    how_to_pay: tuple[str, ...] = HOW_TO_PAY


def describe(debt: Debt, breaches: Sequence[LoggedBreach]) -> Description:
    """Describe a debt by its newest breaches, newest first."""
    return Description(
        title=f"Eval debt of {debt.service}: {debt.budget}",
        facts=(
            ("Service", debt.service),
            ("Budget", debt.budget),
            ("Severity", debt.severity.value),
            ("Occurrences", str(debt.occurrences)),
            ("First breach", _moment(debt.detected_at)),
            ("Last breach", _moment(debt.last_breach_at)),
            ("Due", _moment(debt.due_at)),
            ("Fingerprint", debt.fingerprint),
        ),
        breaches=tuple(
            (
                _moment(logged.breach.breached_at),
                f"{logged.release} against {logged.baseline} ({logged.key})",
                logged.breach.sentence,
            )
            for logged in breaches
        ),
    )


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
