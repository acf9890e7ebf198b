"""HTTP that waits for its answer, for what tasks send: targets, tickets, notifications.

On requests, because the sessions of Airflow's HTTP provider are its.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rollback_budget.text import plural
from rollback_budget.transport.errors import Failure, TransportError
from rollback_budget.transport.policy import POLICY, TransportPolicy
from rollback_budget.transport.request import File, Request, make_request
from rollback_budget.transport.response import Response

if TYPE_CHECKING:
    import requests

_CHUNK = 64 * 1024


class HttpClient(Protocol):
    """Sends requests to one server and waits; paths are relative to its base URL."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        files: Mapping[str, File] | None = None,
        timeout: timedelta,
    ) -> Response:
        """Return the answer, whatever its status; raises :class:`TransportError` without one.

        :param query: parameters of the URL.
        :param body: sent as JSON.
        :param files: sent as ``multipart/form-data``, by field.
        :param timeout: for the whole, connection and body included.
        """
        ...


class RequestsClient:
    """An :class:`HttpClient` on a session that its caller made, which it closes.

    :param session: with authentication, headers, TLS and proxies.
    :param base_url: scheme, host, port and any base path.
    :param has_credentials: whether the session adds credentials to every request.
    """

    def __init__(
        self,
        session: requests.Session,
        base_url: str,
        *,
        has_credentials: bool,
        policy: TransportPolicy = POLICY,
    ) -> None:
        # requests looks at redirects that it does not follow, too: it reads their whole body, and may refuse.
        session.get_redirect_target = lambda _response: None  # type: ignore[method-assign,assignment]
        self._session = session
        self._base_url = base_url
        self._has_credentials = has_credentials or "@" in base_url
        self._policy = policy

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        files: Mapping[str, File] | None = None,
        timeout: timedelta,
    ) -> Response:
        """Return the answer, whatever its status; raises :class:`TransportError` without one."""
        request = make_request(
            self._base_url, method, path, query=query, body=body, headers=headers, files=files
        )
        until = time.monotonic() + timeout.total_seconds()
        followed = 0
        while True:
            response = self._send(request, timeout, until)
            further = self._policy.redirect(
                request,
                response.status,
                response.headers,
                followed=followed,
                has_credentials=self._has_credentials,
            )
            if isinstance(further, str):
                return replace(response, not_followed=further) if further else response
            request, followed = further, followed + 1

    def _send(self, request: Request, timeout: timedelta, until: float) -> Response:
        import requests

        connect_s = self._policy.connect_s(timeout)
        read_s = max(until - time.monotonic(), 0.001)
        no_answer = f"no answer within {timeout.total_seconds():g} s"
        cause: Exception | None = None
        try:
            with self._session.request(
                request.method,
                request.url,
                params=request.query,
                data=request.content,
                files=request.files,
                headers=request.headers,
                timeout=(min(connect_s, read_s), read_s),
                # Said here, because an environment variable with an authority would win otherwise.
                verify=self._session.verify,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = self._read(response, until)
                if content is not None and time.monotonic() <= until:
                    names = {name.lower(): value for name, value in response.headers.items()}
                    return Response(response.status_code, names, content)
            limit = plural(self._policy.largest_body, "byte")
            failure, reason = Failure.TOO_LARGE, f"an answer of more than {limit}"
            if content is not None:
                failure, reason = Failure.TIMEOUT, no_answer
        except requests.ConnectTimeout as error:
            failure, reason, cause = Failure.NO_CONNECTION, f"no connection within {connect_s:g} s", error
        except requests.Timeout as error:
            failure, reason, cause = Failure.TIMEOUT, no_answer, error
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            (failure, reason), cause = _of_connection(error, no_answer), error
        except (requests.RequestException, OSError, ValueError) as error:
            # The address, a certificate file, a header; their text may quote a secret. Nothing was sent.
            failure, reason, cause = Failure.UNUSABLE, type(error).__name__, error
        raise TransportError(failure, reason, request=request.shown) from cause

    def _read(self, response: requests.Response, until: float) -> bytes | None:
        """Return the body as far as there was time, None when it is larger than allowed."""
        most = self._policy.largest_body
        content = bytearray()
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) > most:
                return None
            if time.monotonic() > until:
                break
        return bytes(content)


def _of_connection(error: Exception, no_answer: str) -> tuple[Failure, str]:
    """Say what became of a connection, without the URL, which the library's own text quotes."""
    from urllib3.exceptions import NewConnectionError, ReadTimeoutError

    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", None) or inner
    if isinstance(inner, ReadTimeoutError):
        return Failure.TIMEOUT, no_answer
    failure = Failure.NO_CONNECTION if isinstance(inner, NewConnectionError) else Failure.BROKEN
    # Older versions begin with the address of an object in memory.
    said = re.sub(r"^<[^>]*>: ", "", str(inner))
    return failure, f"{type(error).__name__}: {said}" if said else type(error).__name__
