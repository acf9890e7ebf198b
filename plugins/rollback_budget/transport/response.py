"""What a server answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rollback_budget.transport.retry_after import retry_after, until_reset

#: An error page is quoted up to here.
LONGEST_QUOTE = 200
TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whatever its status.

    :param headers: names in lower case.
    :param body: decoded (no longer compressed), within the policy's limit.
    :param not_followed: why a redirect was not followed, and what to do.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    not_followed: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def transient(self) -> bool:
        """Whether a retry may help: 408, 425, 429 and 5xx."""
        return self.status in (408, 425, 429) or self.status >= 500

    @property
    def ambiguous(self) -> bool:
        """Whether a request that writes may have taken effect, though this is no success."""
        return self.status in (303, 408) or self.status >= 500

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 in it is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def quote(self) -> str:
        """The beginning of the body on one line, or why a redirect was not followed; for messages."""
        if self.not_followed:
            return self.not_followed
        text = " ".join(self.body[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").split())
        return f"{text[:LONGEST_QUOTE]}..." if len(text) > LONGEST_QUOTE else text or "(nothing)"

    def json(self, decode: Callable[[bytes], Any] = json.loads) -> Any:
        """Return the body as JSON; raises ValueError when it is none."""
        return decode(self.body)

    def retry_after(self, now: datetime | None = None) -> timedelta | None:
        """Return how long the server wants no further request, None when it does not say."""
        wait = retry_after(self.headers, now)
        if wait is None and self.status == TOO_MANY_REQUESTS:
            wait = until_reset(self.headers, now)
        return wait
