"""What an incident commander can choose in a review."""

from __future__ import annotations

from enum import StrEnum

#: Who decided when no person did.
RULE = "the rule"
SILENCE = "the deadline"


class Choice(StrEnum):
    """The options of a review, as they stand on the buttons."""

    ROLL_BACK = "Roll back now"
    GO_ON = "Go on"
    PROMOTE = "Promote now"

    @property
    def needs_reason(self) -> bool:
        """Whether it goes against the rule, so that a reason is required."""
        return self is not Choice.ROLL_BACK
