"""Errors: what went wrong with one debt's ticket must not stop the others, and is reported at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.text import plural

Clock = Callable[[], datetime]
T = TypeVar("T")


class SyncErrors:
    """The errors of one call.

    :param what: what could not be done, as it continues "2 debts could not be".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._errors: list[TicketError] = []
        #: Whether the tracker is rate-limited.
        self.limited = False

    @contextmanager
    def about(self, debt: Debt) -> Iterator[None]:
        """Keep the error of one debt instead of raising it."""
        try:
            yield
        except TicketError as error:
            self._errors.append(
                TicketError(
                    f"debt {debt.fingerprint[:16]} ({debt.budget}): {error}",
                    ambiguous=error.ambiguous,
                    refused=error.refused,
                    retry_after=error.retry_after,
                )
            )
            self.limited = self.limited or (error.retry_after is not None and not error.ambiguous)

    def raise_all(self) -> None:
        """Raise one TicketError that says all of them; nothing when there is none."""
        if not self._errors:
            return
        heading = f"{plural(len(self._errors), 'debt')} could not be {self._what}, they stay in the ledger:\n"
        raise _joined(heading, self._errors)


class Attempts:
    """Several things to try, of which one may fail without keeping the next from being tried."""

    def __init__(self) -> None:
        self._errors: list[TicketError] = []

    def do(self, attempt: Callable[[], Iterable[T]]) -> list[T]:
        """Return what ``attempt`` returns, nothing when it fails or the tracker is rate-limited."""
        if any(error.retry_after is not None and not error.ambiguous for error in self._errors):
            return []
        try:
            return list(attempt())
        except TicketError as error:
            self._errors.append(error)
            return []

    def raise_all(self) -> None:
        """Raise one TicketError that says all of them; nothing when there is none."""
        if self._errors:
            raise _joined("", self._errors)


def _joined(heading: str, errors: Sequence[TicketError]) -> TicketError:
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    return TicketError(
        heading + "\n".join(str(error) for error in errors),
        ambiguous=any(error.ambiguous for error in errors),
        refused=all(error.refused for error in errors),
        retry_after=max(waits, default=None),
    )


def running_clock(now: datetime) -> Clock:
    """Let time go on from ``now`` while requests take theirs; leases are measured by it."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
