"""The one family of errors: each message says what is wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


class RollbackBudgetError(Exception):
    """Root of every error that this package raises on purpose."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a budget file, at a place a person can open.

    ``line`` and ``column`` count from 1.
    """

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class SpecError(RollbackBudgetError):
    """A budget file that cannot be used; carries every problem found, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SeriesError(RollbackBudgetError):
    """Samples that cannot be trusted: a naive time, two values for one place, a column that is missing."""


class SourceError(RollbackBudgetError):
    """A metric source that did not answer.

    ``transient`` says whether a retry may help (a time-out, a restart) or not (a rejected query);
    ``retry_after`` is how long a retry is of no use, None when the backend did not say.
    """

    def __init__(self, message: str, *, transient: bool, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.retry_after = retry_after


class RecordingError(RollbackBudgetError):
    """A recording that cannot be begun, gone on with, or written."""


class TargetError(RollbackBudgetError):
    """The service's control plane refused, did not answer, or answered something unreadable.

    ``accepted`` is None when it cannot be known whether the request took effect (a lost reply).
    """

    def __init__(self, message: str, *, conflict: bool = False, accepted: bool | None = False) -> None:
        super().__init__(message)
        self.conflict = conflict
        self.accepted = accepted


class LedgerError(RollbackBudgetError):
    """Root of the ledger's errors; nothing was written."""


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be used now: not reachable, not migrated, locked for too long, no disk, no rights.

    The same call may succeed once that is put right. Where a rollout can go on without the ledger, this
    error, and no other one of the family, says that it should.
    """


class LedgerRuleError(LedgerError):
    """The ledger is there and refuses: what is asked for is against its rules.

    The same call fails again, so it is never retried.
    """


class UnknownRolloutError(LedgerRuleError):
    """A rollout that is not in the ledger."""


class UnreadableSpecError(LedgerRuleError):
    """A rollout whose frozen budget cannot be read here, as the package of its source is not installed."""


class UnknownDebtError(LedgerRuleError):
    """A debt that is not in the ledger, or a fingerprint that several debts share the beginning of."""


class TransitionNotAllowedError(LedgerRuleError):
    """A debt may not go from its state to the one asked for, or not yet."""


class TicketError(RollbackBudgetError):
    """A ticket system refused or did not answer.

    ``ambiguous`` is True when what was asked for may have happened all the same; ``refused`` when it did not,
    and will not before a user changes something; ``retry_after`` is how long another try is of no use, None
    when that is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        ambiguous: bool = False,
        refused: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous
        self.refused = refused
        self.retry_after = retry_after


class EvalError(RollbackBudgetError):
    """Evaluation results that cannot be read or trusted; a gate that meets one blocks."""


class MissingColumnError(EvalError):
    """A column that evaluation results must have and do not."""


class CaseError(RollbackBudgetError):
    """Eval cases that cannot be read, drafted, approved or exported; names the file and line, or the case."""
