"""Asking a metric backend over HTTP: one small client, and one reading of what it answers."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote_plus

from rollback_budget.exceptions import SourceError

if TYPE_CHECKING:
    from aiohttp import ClientSession

#: An error page is quoted up to here.
LONGEST_QUOTE = 200
#: No honest answer to one poll is larger.
LARGEST_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a backend answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient(Protocol):
    """Asks one backend; paths are relative to its base URL."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta,
    ) -> Reply:
        """Return the answer, whatever its status; raises :class:`SourceError` (transient) without one.

        :param query: parameters of the URL.
        :param form: sent as ``application/x-www-form-urlencoded``.
        :param body: sent as JSON.
        """
        ...


class AiohttpClient:
    """An :class:`HttpClient` on a session that someone else made (and may share).

    :param open_session: returns the session; called for each request, in the running event loop.
    :param base_url: scheme, host, port and any base path.
    :param headers: sent with every request, beside those of the request.
    :param tls: False for no verification, a context for a private authority, True for the system's.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[ClientSession]],
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | bool = True,
        proxy: str | None = None,
    ) -> None:
        self._open_session = open_session
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers or {})
        self._tls = tls
        self._proxy = proxy

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta,
    ) -> Reply:
        """Return the answer, whatever its status; raises :class:`SourceError` (transient) without one."""
        import aiohttp

        session = await self._open_session()
        more = headers or {}
        if form is not None:
            more = {"Content-Type": "application/x-www-form-urlencoded", **more}
        url = f"{self._base_url}/{path.lstrip('/')}"
        try:
            async with session.request(
                method,
                url,
                params=query,
                data=None if form is None else _encoded(form),
                json=body,
                headers={**self._headers, **more},
                ssl=self._tls,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=timeout.total_seconds()),
            ) as response:
                content = await response.content.read(LARGEST_BODY + 1)
                while not response.content.at_eof() and len(content) <= LARGEST_BODY:
                    content += await response.content.read(LARGEST_BODY + 1 - len(content))
                names = {name.lower(): value for name, value in response.headers.items()}
                status = response.status
        except TimeoutError:
            raise SourceError(
                f"{method} {url}: no answer within {timeout.total_seconds():g} s", transient=True
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise SourceError(f"{method} {url}: {error or type(error).__name__}", transient=True) from error
        if len(content) > LARGEST_BODY:
            raise SourceError(f"{method} {url}: an answer of more than {LARGEST_BODY} bytes", transient=False)
        return Reply(status, names, content)


def _encoded(form: Mapping[str, str]) -> bytes:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in form.items()).encode()


@lru_cache(256)
def _quoted(text: str) -> str:
    # Long queries come again and again, and quoting one takes longer than sending it.
    return quote_plus(text)


def read_json(
    reply: Reply,
    backend: str,
    *,
    now: datetime | None = None,
    decode: Callable[[bytes], Any] = json.loads,
) -> Any:
    """Return the JSON of a good answer.

    :param backend: who answered, for the message.
    :param decode: raises ValueError for what is not JSON.
    :raises SourceError: for every status but 2xx, and for a body that is not JSON. 408, 425, 429 and 5xx are
        transient, and so is a body that is not JSON (a proxy's error page, an answer cut short).
    """
    if not 200 <= reply.status < 300:
        raise SourceError(
            f"{backend} answered {reply.status}: {quote_body(reply)}",
            transient=reply.status in (408, 425, 429) or reply.status >= 500,
            retry_after=retry_after(reply, now),
        )
    try:
        return decode(reply.body)
    except ValueError:
        kind = reply.headers.get("content-type", "no content type")
        raise SourceError(
            f"{backend} answered no JSON ({kind}, {len(reply.body)} bytes): {quote_body(reply)}",
            transient=True,
        ) from None


def retry_after(reply: Reply, now: datetime | None = None) -> timedelta | None:
    """Return how long to wait by ``Retry-After``: seconds, or an HTTP date; None without a usable one."""
    value = reply.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return timedelta(seconds=min(int(value), 24 * 3600))
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(until - (now or datetime.now(UTC)), timedelta(0))


def quote_body(reply: Reply) -> str:
    """Return the beginning of an answer, on one line."""
    text = " ".join(reply.body[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").split())
    return f"{text[:LONGEST_QUOTE]}..." if len(text) > LONGEST_QUOTE else text or "(nothing)"
