"""What the answer of a control plane means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rollback_budget.exceptions import TargetError
from rollback_budget.transport.response import LONGEST_QUOTE, Response

#: ``send(method, path, body, headers)``. It does not raise for a status, and raises TargetError with
#: ``accepted=False`` when nothing was sent, ``accepted=None`` when the answer was lost.
Send = Callable[[str, str, Any, Mapping[str, str]], Response]


def said(response: Response) -> str:
    """Return status and the beginning of the body, for a message."""
    if response.not_followed:
        return f"{response.status}: {response.not_followed}"
    return f"{response.status} {response.text[:LONGEST_QUOTE].strip()!r}"


def read_json(response: Response, what: str) -> Any:
    """Return the JSON of a good answer; raises :class:`TargetError` naming ``what`` was asked."""
    if not response.ok:
        raise TargetError(f"{what} answered {said(response)}")
    try:
        return response.json()
    except ValueError as error:
        raise TargetError(f"{what} did not answer JSON: {said(response)}") from error


def require_accepted(response: Response, what: str) -> None:
    """Raise :class:`TargetError` unless a change was accepted.

    409 and 412 are conflicts; 5xx leaves open whether it took effect.
    """
    if response.ok:
        return
    answered = f"{what} answered {said(response)}"
    if response.status in (409, 412):
        raise TargetError(f"{answered}: someone changed the traffic since it was read", conflict=True)
    raise TargetError(answered, accepted=None if response.ambiguous else False)
