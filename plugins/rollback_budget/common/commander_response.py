"""What a commander may say in a review, and whether it can be followed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from rollback_budget.model.choice import Choice as Choice

SHORTEST_REASON = 5

_TIME_OF_DAY = re.compile(r"(\d{1,2})[:.](\d{2})\s*(?:UTC|Z)?", re.IGNORECASE)


class InvalidResponseError(ValueError):
    """An answer that cannot be followed; says what is missing, and the commander is asked again."""


@dataclass(frozen=True)
class CommanderResponse:
    """What was answered.

    :param by: the user's name; None when no answer came in time.
    :param until: until when an override holds; None unless it is "go on".
    :param mute: whether the breached budgets shall not burn until then.
    """

    choice: Choice
    by: str | None
    reason: str | None
    at: datetime
    until: datetime | None = None
    mute: bool = False


def read_response(event: dict[str, Any], window_end: datetime) -> CommanderResponse:
    """Read what Airflow brings of an answer.

    Rolling back is never refused for a slip in a field that it does not need, and neither is silence.

    :param event: the payload of Airflow's resume event.
    :raises InvalidResponseError: an override without a reason, or until a time that cannot be meant.
    """
    choice = Choice(event["chosen_options"][0])
    given = event.get("params_input") or {}
    user = event.get("responded_by_user")
    at = event["responded_at"]
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    reason = _text(given.get("reason"))
    by = None if user is None else str(user["name"])
    if by is not None and choice.needs_reason and len(reason or "") < SHORTEST_REASON:
        raise InvalidResponseError(f"{choice.value!r} needs a reason of at least {SHORTEST_REASON} letters")
    if choice is not Choice.GO_ON:
        return CommanderResponse(choice, by, reason, at)
    until = window_end if by is None else read_until(_text(given.get("until")), at, window_end)
    return CommanderResponse(
        choice, by, reason, at, until=until, mute=by is not None and given.get("mute") is True
    )


def read_until(text: str | None, at: datetime, window_end: datetime) -> datetime:
    """Read a time that was typed at ``at``: ``03:27`` (the next one, UTC) or ISO 8601 (UTC without zone).

    :return: the window's end for nothing, and for anything later.
    :raises InvalidResponseError: it is no time, or one that is over.
    """
    if text is None:
        return window_end
    until = _next_time_of_day(text, at) or _moment(text)
    if until is None:
        raise InvalidResponseError(f"until {text!r} is no time; write 03:27 (UTC) or 2026-01-31T03:27Z")
    if until <= at:
        raise InvalidResponseError(f"until {text!r} is over; write a time to come")
    return min(until, window_end)


def _next_time_of_day(text: str, at: datetime) -> datetime | None:
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        return None
    try:
        moment = datetime.combine(at.astimezone(UTC), time(int(match[1]), int(match[2])), UTC)
    except ValueError:
        return None
    return moment if moment > at else moment + timedelta(days=1)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
