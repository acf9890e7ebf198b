"""The policy of every request: time-outs, retries, redirects and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urljoin, urlsplit

from rollback_budget.text import plural
from rollback_budget.transport.request import Request, without_secrets

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_REMEDY = "write the address that needs no redirect as the connection's host"


@dataclass(frozen=True, slots=True)
class TransportPolicy:
    """What every client obeys.

    No client sends a POST twice: whether another try may help, and when, is said by the answer or the error,
    and it is the caller who knows whether its request may be repeated. (aiohttp sends an idempotent request
    again when a connection that it kept open turns out to be closed.)

    :param connect: how long a connection may take; the whole request has a time-out of its own.
    :param most_redirects: so many are followed, of GET and HEAD only.
    :param largest_body: bytes of an answer.
    """

    connect: timedelta = timedelta(seconds=10)
    most_redirects: int = 5
    largest_body: int = 64 * 1024 * 1024

    def with_redirects(self, most: int) -> TransportPolicy:
        """Return this policy with at most so many redirects."""
        return replace(self, most_redirects=min(self.most_redirects, most))

    def connect_s(self, timeout: timedelta) -> float:
        """Return the seconds that a connection may take within a time-out for the whole."""
        return min(self.connect, timeout).total_seconds()

    def redirect(
        self,
        request: Request,
        status: int,
        headers: Mapping[str, str],
        *,
        followed: int,
        has_credentials: bool,
    ) -> Request | str:
        """Return the request that an answer redirects to, why it is not followed, or "" without a redirect.

        :param headers: of the answer, with names in lower case.
        :param followed: redirects before this one.
        :param has_credentials: whether the connection adds credentials to every request.
        """
        location = headers.get("location", "") if status in _REDIRECTS else ""
        if not location:
            return ""
        try:
            url = urljoin(request.url, location)
            scheme, is_elsewhere = urlsplit(url).scheme, _origin(url) != _origin(request.url)
        except ValueError:
            return f"it redirects to something that is no address, which was not followed; {_REMEDY}"
        why = ""
        if request.method not in ("GET", "HEAD"):
            why = f"a {request.method} is never redirected"
        elif followed >= self.most_redirects:
            why = f"at most {plural(self.most_redirects, 'redirect')} may be followed"
        elif scheme not in _PORTS:
            why = "it is no HTTP address"
        elif is_elsewhere and (has_credentials or request.headers):
            why = "it is another host, and the connection's credentials would go there"
        if why:
            return f"it redirects to {without_secrets(url)[:200]!r}, which was not followed: {why}; {_REMEDY}"
        return replace(request, url=url, query=None)


#: The policy of sources, targets, tickets and notifications.
POLICY = TransportPolicy()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
