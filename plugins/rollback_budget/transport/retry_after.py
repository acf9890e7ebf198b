"""``Retry-After`` and the reset of a rate limit: how long a server wants no further request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: The longest pause, whatever the header says: a watch has an end.
LONGEST_WAIT = timedelta(days=1)
#: When a limit begins anew: Datadog's and GitHub's name, and that of the IETF's draft.
_RESETS = ("x-ratelimit-reset", "ratelimit-reset")
#: More seconds than this are a time since the epoch (GitHub) and not a wait (Datadog, the draft).
_SURELY_AN_EPOCH = 1_000_000_000
#: More digits are more than the longest wait, and Python refuses to read thousands of them.
_MOST_DIGITS = 9
#: As many has a time since the epoch.
_MOST_RESET_DIGITS = 10


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """Return how long to wait by ``Retry-After``, at most :data:`LONGEST_WAIT`; None without a usable one.

    RFC 9110, section 10.2.3: whole seconds, or an HTTP date, which is compared with ``now`` (aware).

    :param headers: of a response, with names in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        wait = LONGEST_WAIT if len(value) > _MOST_DIGITS else timedelta(seconds=int(value))
    else:
        try:
            until = parsedate_to_datetime(value)
            wait = until.replace(tzinfo=until.tzinfo or UTC) - (now or datetime.now(UTC))
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(wait, timedelta(0)), LONGEST_WAIT)


def until_reset(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """Return how long until a used-up rate limit begins anew, at most :data:`LONGEST_WAIT`; None if not said.

    For an answer 429 without ``Retry-After``: seconds from now, or seconds since the epoch.

    :param headers: of a response, with names in lower case.
    """
    for name in _RESETS:
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdecimal() and len(value) <= _MOST_RESET_DIGITS:
            seconds = float(value)
            if seconds >= _SURELY_AN_EPOCH:
                seconds -= (now or datetime.now(UTC)).timestamp()
            return min(max(timedelta(seconds=seconds), timedelta(0)), LONGEST_WAIT)
    return None
