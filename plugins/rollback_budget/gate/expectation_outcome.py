"""What became of each expectation of a suite, whatever ran it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """Why an expectation could not be looked at."""

    UNKNOWN = "unknown"
    COLUMN = "column"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ExpectationOutcome:
    """What became of one expectation.

    :param cases: the cases that did not meet it, where it is about cases.
    :param detail: what was seen, for people.
    :param trouble: why it could not be looked at; None when it was.
    """

    check: str
    success: bool
    cases: tuple[str, ...] = ()
    detail: str = ""
    trouble: Trouble | None = None
