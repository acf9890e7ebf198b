"""From an Airflow ``http`` connection to the client of its server: the one place that reads them.

The HTTP provider's hooks say what a connection means: scheme and host, login, headers and options in
``extra``, SRV records. What they cannot do by their public methods is done here, once for both:

- a password without a login is a bearer token (they ignore it);
- a port belongs to the host and not behind a base path (they append it);
- a login beats a header (aiohttp refuses to send both) and may hold any character (they take Latin-1);
- a client certificate and an authority's file also on an event loop (the asynchronous hook drops the one and
  takes the other for "yes");
- an event loop never waits for Airflow's supervisor (the asynchronous hook reads ``extra_dejson``, which has
  secrets masked there, and hangs in a triggerer).
"""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook, Connection

from rollback_budget.exceptions import SourceError
from rollback_budget.transport.async_client import AiohttpClient, AsyncHttpClient
from rollback_budget.transport.client import RequestsClient
from rollback_budget.transport.errors import Failure, TransportError
from rollback_budget.transport.policy import POLICY, TransportPolicy

if TYPE_CHECKING:
    import requests
    from aiohttp import ClientSession

#: Requests in flight to one backend from one process.
PER_HOST = 16
_PROVIDER = "airflow.providers.http.hooks.http"
_FIELDS = ("conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra")

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, ClientSession] = WeakKeyDictionary()


async def open_http_client(conn_id: str) -> AsyncHttpClient:
    """Return the client of an ``http`` connection; raises :class:`SourceError` when it cannot be used.

    As the HTTP provider reads it: host (with or without scheme and base path), port, schema, login and
    password for basic authentication; ``extra`` holds headers (``{"Authorization": "Bearer ..."}``) and the
    options ``verify`` (false, or the path of an authority's certificates), ``cert``, ``proxy``, ``proxies``,
    ``max_redirects`` and ``allow_redirects``. A password without a login is a bearer token.
    """
    try:
        # The first time this is a quarter of a second of work, which other watches need not wait for.
        provider = await asyncio.to_thread(import_module, _PROVIDER)
        connection = await BaseHook.aget_connection(conn_id)
        completed = _completed(connection, await _extra_of(connection))
        hook = provider.HttpAsyncHook(http_conn_id=conn_id)
        _bind(hook, completed)
        config = await hook.config()
        base_url = config.base_url
        if completed.extra_dejson.get("srv_lookup"):
            base_url = await asyncio.to_thread(_looked_up, provider, completed)
        options = config.extra_options or {}
        headers = {name: str(value) for name, value in (config.headers or {}).items()}
        return AiohttpClient(
            shared_session,
            base_url,
            headers=headers,
            tls=_tls(options.get("verify_ssl"), options.get("cert")),
            proxy=_proxy(options.get("proxy"), base_url),
            policy=_policy(completed.extra_dejson),
        )
    except Exception as error:
        raise SourceError(f"connection {conn_id!r} cannot be used: {error}", transient=False) from error


def open_blocking_http_client(
    conn_id: str, get_connection: Callable[[str], Connection] = BaseHook.get_connection
) -> RequestsClient:
    """Return the client of an ``http`` connection for code that waits; close it after use.

    :param get_connection: looks the connection up.
    :raises TransportError: the connection cannot be used; the text names it, and never its content.
    """
    try:
        import requests

        provider = import_module(_PROVIDER)
        connection = get_connection(conn_id)
        completed = _completed(connection, connection.extra_dejson)
        hook = provider.HttpHook(http_conn_id=conn_id)
        _bind(hook, completed)
        session = hook.get_conn()
        # An authenticator of ours, because a .netrc would win over a header otherwise.
        session.auth = _unauthenticated
        headers = {name.lower(): str(value) for name, value in session.headers.items()}
        session.headers.update(headers)
        own = headers.keys() - {name.lower() for name in requests.utils.default_headers()}
        return RequestsClient(
            session,
            hook.url_from_endpoint(""),
            has_credentials=bool(own or session.cert),
            policy=_policy(completed.extra_dejson),
        )
    except Exception as error:
        said = f"the connection {conn_id} cannot be used: {type(error).__name__}"
        raise TransportError(Failure.UNUSABLE, said) from error


@cache
def load_blocking_client() -> None:
    """Import what :func:`open_blocking_http_client` needs, which takes up to a second the first time."""
    import_module("requests")
    import_module(_PROVIDER)


async def shared_session() -> ClientSession:
    """Return the one session of the running event loop."""
    import aiohttp

    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None or session.closed:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=PER_HOST),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        _sessions[loop] = session
    return session


async def close_shared_session() -> None:
    """Close the running event loop's session; short-lived loops must."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()


def keep_connection(connection: Connection) -> Connection:
    """Return the connection with its ``extra`` read once: nothing more is asked of Airflow for it later."""
    kept = _Completed(**{name: getattr(connection, name) for name in _FIELDS})
    kept.known_extra = dict(connection.extra_dejson)
    return kept


class _Completed(Connection):
    """A connection whose ``extra`` was read, and its secrets masked, before."""

    known_extra: dict[str, Any]

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """Return it without a request."""
        return dict(self.known_extra)


async def _extra_of(connection: Connection) -> dict[str, Any]:
    """Return ``extra``; its secrets are masked by the supervisor, for whom an event loop must not wait."""
    read = getattr(connection, "aextra_dejson", None)
    extra = await asyncio.to_thread(lambda: connection.extra_dejson) if read is None else await read()
    return dict(extra)


def _completed(connection: Connection, extra: Mapping[str, Any]) -> _Completed:
    """Return the connection as the provider's hooks have to find it; raises ValueError."""
    host = connection.host or ""
    if not host:
        raise ValueError("it has no host")
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    if connection.port and ":" not in authority.rpartition("]")[2]:
        authority = f"{authority}:{connection.port}"
    known = dict(extra)
    named = {name for name in known if name.lower() == "authorization"}
    if connection.login:
        known = {name: value for name, value in known.items() if name not in named}
        login = f"{connection.login}:{connection.password or ''}".encode()
        known["Authorization"] = f"Basic {b64encode(login).decode()}"
    elif connection.password and not named:
        known["Authorization"] = f"Bearer {connection.password}"
    proxy = known.pop("proxy", None)
    if proxy:
        known["proxies"] = proxy if isinstance(proxy, Mapping) else {"http": proxy, "https": proxy}
    completed = _Completed(
        conn_id=connection.conn_id,
        conn_type=connection.conn_type,
        host=f"{scheme}://{authority}{slash}{path}",
        extra=json.dumps(known),
    )
    completed.known_extra = known
    return completed


def _bind(hook: Any, connection: Connection) -> None:
    """Let a hook find this connection; looking one up again would never return in a triggerer."""

    async def known(conn_id: str) -> Connection:  # noqa: ARG001
        return connection

    hook.get_connection = lambda conn_id: connection  # noqa: ARG005
    hook.aget_connection = known


def _looked_up(provider: Any, connection: Connection) -> str:
    """Return the base URL that an SRV record gives; only the waiting hook says it."""
    hook = provider.HttpHook(http_conn_id=connection.conn_id)
    _bind(hook, connection)
    return str(hook.url_from_endpoint(""))


def _unauthenticated(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _policy(extra: Mapping[str, Any]) -> TransportPolicy:
    """Return the policy; a connection may only have fewer redirects followed."""
    if extra.get("allow_redirects") is False:
        return POLICY.with_redirects(0)
    most = extra.get("max_redirects")
    return POLICY if most is None else POLICY.with_redirects(int(most))


def _proxy(proxies: Mapping[str, str] | None, base_url: str) -> str | None:
    found = proxies or {}
    return found.get(urlsplit(base_url).scheme) or found.get("https") or found.get("http")


def _tls(verify: bool | str | None, cert: Any) -> ssl.SSLContext | bool:
    if not cert and not isinstance(verify, str):
        return verify is not False
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else tuple(cert)))
    return context
