"""HTTP on an event loop, for what is queried again and again: metric sources and sources of cases.

On aiohttp, because httpx takes about five times the CPU for a request, and a poll is hardly more than one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from rollback_budget.text import plural
from rollback_budget.transport.errors import Failure, TransportError
from rollback_budget.transport.policy import POLICY, TransportPolicy
from rollback_budget.transport.request import Request, make_request
from rollback_budget.transport.response import Response

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession


class AsyncHttpClient(Protocol):
    """Sends requests to one server; paths are relative to its base URL."""

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
    ) -> Response:
        """Return the answer, whatever its status; raises :class:`TransportError` without one.

        :param query: parameters of the URL.
        :param form: sent as ``application/x-www-form-urlencoded``.
        :param body: sent as JSON.
        :param timeout: for the whole, connection and body included.
        """
        ...


class AiohttpClient:
    """An :class:`AsyncHttpClient` on a session that its caller made (and may share).

    :param open_session: returns the session; called for each request, in the running event loop.
    :param base_url: scheme, host, port and any base path.
    :param headers: sent with every request, beside those of the request; taken for credentials.
    :param tls: False for no verification, a context for a private authority or a client certificate, True for
        the system's.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[ClientSession]],
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | bool = True,
        proxy: str | None = None,
        policy: TransportPolicy = POLICY,
    ) -> None:
        self._open_session = open_session
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._tls = tls
        self._proxy = proxy
        self._policy = policy
        self._has_credentials = bool(self._headers) or isinstance(tls, ssl.SSLContext) or "@" in base_url

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
    ) -> Response:
        """Return the answer, whatever its status; raises :class:`TransportError` without one."""
        request = make_request(
            self._base_url, method, path, query=query, form=form, body=body, headers=headers
        )
        clock = asyncio.get_running_loop().time
        until = clock() + timeout.total_seconds()
        followed = 0
        while True:
            response = await self._send(request, timeout)
            if not 300 <= response.status < 400:
                return response
            further = self._policy.redirect(
                request,
                response.status,
                response.headers,
                followed=followed,
                has_credentials=self._has_credentials,
            )
            if isinstance(further, str):
                return replace(response, not_followed=further)
            request, followed = further, followed + 1
            timeout = timedelta(seconds=max(until - clock(), 0.001))

    async def _send(self, request: Request, timeout: timedelta) -> Response:
        import aiohttp

        session = await self._open_session()
        connect_s = self._policy.connect_s(timeout)
        cause: Exception | None = None
        try:
            async with session.request(
                request.method,
                request.url,
                params=request.query,
                data=request.content,
                headers=self._with_own(request.headers),
                ssl=self._tls,
                proxy=self._proxy,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout.total_seconds(), sock_connect=connect_s),
            ) as response:
                content = await self._read(response)
                names = {name.lower(): value for name, value in response.headers.items()}
                status = response.status
        except aiohttp.ConnectionTimeoutError as error:
            failure, reason, cause = Failure.NO_CONNECTION, f"no connection within {connect_s:g} s", error
        except TimeoutError as error:
            failure, cause = Failure.TIMEOUT, error
            reason = f"no answer within {timeout.total_seconds():g} s"
        except aiohttp.ClientConnectorError as error:
            failure, reason, cause = Failure.NO_CONNECTION, str(error), error
        except (aiohttp.InvalidURL, ValueError) as error:
            # Their text quotes the address, or a header.
            failure, reason, cause = Failure.UNUSABLE, type(error).__name__, error
        except aiohttp.ClientResponseError as error:
            # Its text quotes the address with its query, or the proxy with its password.
            failure, cause = Failure.BROKEN, error
            reason = f"{type(error).__name__}: {error.status} {error.message}"
        except (aiohttp.ClientError, OSError) as error:
            failure, reason, cause = Failure.BROKEN, str(error) or type(error).__name__, error
        else:
            if content is not None:
                return Response(status, names, content)
            limit = plural(self._policy.largest_body, "byte")
            failure, reason = Failure.TOO_LARGE, f"an answer of more than {limit}"
        raise TransportError(failure, reason, request=request.shown) from cause

    def _with_own(self, own: Mapping[str, str]) -> dict[str, str]:
        names = {name.lower() for name in own}
        return {**{name: value for name, value in self._headers.items() if name.lower() not in names}, **own}

    async def _read(self, response: ClientResponse) -> bytes | None:
        """Return the body, None when it is larger than allowed."""
        most = self._policy.largest_body
        if (response.content_length or 0) > most:
            return None
        content = await response.content.read(most + 1)
        while not response.content.at_eof() and len(content) <= most:
            content += await response.content.read(most + 1 - len(content))
        return content if len(content) <= most else None
