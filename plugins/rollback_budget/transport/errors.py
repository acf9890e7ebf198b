"""Requests that got no answer."""

from __future__ import annotations

from enum import Enum

from rollback_budget.exceptions import RollbackBudgetError


class Failure(Enum):
    """Why there is no answer."""

    #: The request or its connection cannot be used: an address, a header, a certificate file.
    UNUSABLE = "unusable"
    NO_CONNECTION = "no connection"
    #: No answer in time.
    TIMEOUT = "time-out"
    #: The connection was lost before the answer was complete.
    BROKEN = "broken"
    TOO_LARGE = "too large"


class TransportError(RollbackBudgetError):
    """A request without a usable answer; its text names neither credentials nor the query of the URL.

    :param reason: what happened, without saying to which request.
    :param request: method and URL, for users whose URLs are no secret.
    """

    def __init__(self, failure: Failure, reason: str, *, request: str = "") -> None:
        super().__init__(f"{request}: {reason}" if request else reason)
        self.failure = failure
        self.reason = reason

    @property
    def transient(self) -> bool:
        """Whether another try may help."""
        return self.failure in (Failure.NO_CONNECTION, Failure.TIMEOUT, Failure.BROKEN)

    @property
    def ambiguous(self) -> bool:
        """Whether the request may have taken effect all the same."""
        return self.failure in (Failure.TIMEOUT, Failure.BROKEN, Failure.TOO_LARGE)
