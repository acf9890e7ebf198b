"""Issue identity: by what an issue is known as the ticket of one debt. A label alone can be copied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollback_budget.ledger.debt_views import Debt

#: Name of the issue's entity property. People do not see it, and cloning an issue does not copy it.
PROPERTY = "rollback-budget"

_LINE = re.compile(r"rollback-budget ([0-9a-f]{64}) cycle (\d{1,9}) occurrences (\d{1,9})")


@dataclass(frozen=True, slots=True)
class IssueIdentity:
    """What is written into an issue when it is created.

    :param occurrences: how many breaches its text speaks of.
    """

    fingerprint: str
    cycle: int
    occurrences: int

    @classmethod
    def of(cls, debt: Debt) -> IssueIdentity:
        """Return the identity of a debt's ticket that is created now."""
        return cls(debt.fingerprint, debt.cycle, debt.occurrences)

    @classmethod
    def from_property(cls, value: object) -> IssueIdentity | None:
        """Read the value of an entity property; None when it is none of ours."""
        if not isinstance(value, Mapping):
            return None
        fingerprint, cycle, occurrences = (value.get(k) for k in ("fingerprint", "cycle", "occurrences"))
        if not isinstance(fingerprint, str) or not isinstance(cycle, int) or not isinstance(occurrences, int):
            return None
        return cls(fingerprint, cycle, occurrences)

    @classmethod
    def from_text(cls, text: object) -> IssueIdentity | None:
        """Read the last identity line of a description; None when there is none."""
        found = _LINE.findall(text) if isinstance(text, str) else []
        return cls(found[-1][0], int(found[-1][1]), int(found[-1][2])) if found else None

    def belongs_to(self, debt: Debt) -> bool:
        """Whether this is the ticket of that debt, in its present cycle."""
        return (self.fingerprint, self.cycle) == (debt.fingerprint, debt.cycle)

    @property
    def as_property(self) -> dict[str, Any]:
        """The identity as an entity property of an issue that is created."""
        value = {"fingerprint": self.fingerprint, "cycle": self.cycle, "occurrences": self.occurrences}
        return {"key": PROPERTY, "value": value}

    @property
    def line(self) -> str:
        """The identity as a line of the description, for a server that keeps no properties."""
        return f"rollback-budget {self.fingerprint} cycle {self.cycle} occurrences {self.occurrences}"
