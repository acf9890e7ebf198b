"""From an Airflow ``http`` connection to a client for metric backends, on one session per event loop."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook, Connection

from rollback_budget.exceptions import SourceError
from rollback_budget.sources.http_client import AiohttpClient, HttpClient

if TYPE_CHECKING:
    from aiohttp import ClientSession

#: Options of an ``http`` connection that stand beside its headers in ``extra``.
OPTIONS = frozenset({"verify", "cert", "proxies", "proxy", "timeout", "allow_redirects", "max_redirects",
                     "stream", "check_response", "trust_env"})  # fmt: skip
#: Requests in flight to one backend from one process.
PER_HOST = 16

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, ClientSession] = WeakKeyDictionary()


async def open_http_client(conn_id: str) -> HttpClient:
    """Return the client of an ``http`` connection; raises :class:`SourceError` when it cannot be used.

    As the HTTP provider reads it: host (with or without scheme and base path), port, schema, login and
    password for basic authentication; ``extra`` holds headers (``{"Authorization": "Bearer ..."}``) and the
    options ``verify`` (false, or the path of an authority's certificates), ``cert`` and ``proxy``. A password
    without a login is a bearer token.
    """
    try:
        # The first time this is a quarter of a second of work, which other watches need not wait for.
        await asyncio.to_thread(import_module, "aiohttp")
        connection = await BaseHook.aget_connection(conn_id)
    except Exception as error:
        raise SourceError(f"connection {conn_id!r} cannot be used: {error}", transient=False) from error
    return client_of(connection)


def client_of(connection: Connection) -> HttpClient:
    """Return the client that ``connection`` describes."""
    extra = connection.extra_dejson
    headers = {name: str(value) for name, value in extra.items() if name not in OPTIONS}
    named = {name for name in headers if name.lower() == "authorization"}
    if connection.login:
        # A login beats a header, as it does in the HTTP provider.
        headers = {name: value for name, value in headers.items() if name not in named}
        login = f"{connection.login}:{connection.password or ''}".encode()
        headers["Authorization"] = f"Basic {b64encode(login).decode()}"
    elif connection.password and not named:
        headers["Authorization"] = f"Bearer {connection.password}"
    proxies = extra.get("proxies") or {}
    proxy = extra.get("proxy") or proxies.get("https") or proxies.get("http")
    return AiohttpClient(
        shared_session, _base_url(connection), headers=headers, tls=_tls(connection), proxy=proxy
    )


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


def _base_url(connection: Connection) -> str:
    host = connection.host or ""
    if not host:
        raise SourceError(f"connection {connection.conn_id!r} has no host", transient=False)
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    if connection.port and ":" not in authority.rpartition("]")[2]:
        authority = f"{authority}:{connection.port}"
    return f"{scheme}://{authority}{slash}{path}"


def _tls(connection: Connection) -> ssl.SSLContext | bool:
    verify = connection.extra_dejson.get("verify", True)
    cert = connection.extra_dejson.get("cert")
    if verify is False and not cert:
        return False
    if verify is True and not cert:
        return True
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else tuple(cert)))
    return context
