"""Speaking HTTP to a control plane: one request, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rollback_budget.exceptions import TargetError


class Reply(Protocol):
    """What is read from an HTTP response (``requests`` and ``httpx`` responses fit)."""

    status_code: int

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """Return the decoded body."""
        ...


#: ``send(method, path, body, headers)``. It does not raise for a status, and raises TargetError with
#: ``accepted=False`` when nothing was sent, ``accepted=None`` when the reply was lost.
Send = Callable[[str, str, Any, Mapping[str, str]], Reply]


def is_good(reply: Reply) -> bool:
    """Whether the status is one of success."""
    return 200 <= reply.status_code < 300


def said(reply: Reply) -> str:
    """Return status and the beginning of the body, for a message."""
    return f"{reply.status_code} {reply.text[:200].strip()!r}"


def read_json(reply: Reply, what: str) -> Any:
    """Return the JSON of a good answer; raises :class:`TargetError` naming ``what`` was asked."""
    if not is_good(reply):
        raise TargetError(f"{what} answered {said(reply)}")
    try:
        return reply.json()
    except ValueError as error:
        raise TargetError(f"{what} did not answer JSON: {said(reply)}") from error


def require_accepted(reply: Reply, what: str) -> None:
    """Raise :class:`TargetError` unless a change was accepted.

    409 and 412 are conflicts; 5xx leaves open whether it took effect.
    """
    if is_good(reply):
        return
    answered = f"{what} answered {said(reply)}"
    if reply.status_code in (409, 412):
        raise TargetError(f"{answered}: someone changed the traffic since it was read", conflict=True)
    raise TargetError(answered, accepted=None if reply.status_code >= 500 else False)
