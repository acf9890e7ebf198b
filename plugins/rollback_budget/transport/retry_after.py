"""``Retry-After``: how long a server wants no further request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: The longest pause, whatever the header says: a watch has an end.
LONGEST_WAIT = timedelta(days=1)
#: More digits are more than the longest wait, and Python refuses to read thousands of them.
_MOST_DIGITS = 9


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
