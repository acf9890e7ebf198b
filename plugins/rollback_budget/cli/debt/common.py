"""What the debt commands share: finding a debt by its fingerprint, and a debt as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rollback_budget.cli.common import iso
from rollback_budget.exceptions import UnknownDebtError

if TYPE_CHECKING:
    from rollback_budget.ledger.debt_views import Debt
    from rollback_budget.ledger.ledger import Ledger


def find_debt(ledger: Ledger, beginning: str) -> Debt:
    """Return the one debt whose fingerprint begins with ``beginning``.

    :raises UnknownDebtError: there is none, or there are several.
    """
    matching = [one for one in ledger.debts.every() if one.fingerprint.startswith(beginning)]
    if len(matching) == 1:
        return matching[0]
    what = "several debts' fingerprints begin" if matching else "no debt's fingerprint begins"
    raise UnknownDebtError(
        f"{what} with {beginning!r} in the ledger at {ledger.place}. See: rollback-budget debt list"
    )


def minute(time: datetime) -> str:
    """Return a time for people, to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def debt_json(one: Debt, now: datetime) -> dict[str, Any]:
    """Return a debt as JSON; ``state`` is how far it is, ``waived`` and ``overdue`` stand beside it."""
    ticket, waiver = one.ticket, one.waiver
    return {
        "fingerprint": one.fingerprint,
        "service": one.service,
        "area": one.area,
        "metric": one.metric,
        "comparison": one.comparison.value,
        "slice": one.slice,
        "severity": one.severity.value,
        "state": one.state.value,
        "occurrences": one.occurrences,
        "cycle": one.cycle,
        "detected_at": iso(one.detected_at),
        "last_breach_at": iso(one.last_breach_at),
        "due_at": iso(one.due_at),
        "paid_at": iso(one.paid_at),
        "overdue": one.is_overdue(now),
        "waived": one.is_owed and one.is_waived(now),
        "waiver": None
        if waiver is None
        else {"by": waiver.by, "reason": waiver.reason, "until": iso(waiver.until)},
        "duplicate_of": one.duplicate_of,
        "ticket": None
        if ticket is None
        else {
            "state": ticket.state.value,
            "tracker": ticket.tracker,
            "key": ticket.key,
            "url": ticket.url,
            "status": ticket.status,
            "last_error": ticket.last_error,
        },
    }
