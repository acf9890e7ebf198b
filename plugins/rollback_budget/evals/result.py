"""The results of an evaluation, row by row, from any evaluator or table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case, run once on one release.

    :param case_id: the case's own id; in ordinary evaluation data, whatever names its row.
    :param passed: None when it is not known: the case crashed, or its result was not a number.
    :param score: the evaluator's number, where it gives one.
    :param slice: the part of traffic that the case stands for.
    :param input_sha256: hash of the input that was asked, where the evaluator keeps it.
    :param numbers: further measurements by name, such as a latency; None where one is missing or NaN.
    """

    case_id: str
    release: str
    passed: bool | None
    score: float | None = None
    slice: str | None = None
    input_sha256: str | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """All results that were read from one file or table.

    :param origin: where it was read, for people.
    :param digest: SHA-256 (hex) of what was read, so that a proof can name it.
    """

    origin: str
    digest: str
    cases: tuple[CaseResult, ...]

    def of(self, release: str) -> tuple[CaseResult, ...]:
        """Return the rows of one release."""
        return tuple(case for case in self.cases if case.release == release)
