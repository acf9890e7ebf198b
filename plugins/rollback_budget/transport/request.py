"""One request, made the same way for every client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlsplit, urlunsplit

from rollback_budget.transport.errors import Failure, TransportError


class File(NamedTuple):
    """A file that is sent as ``multipart/form-data``."""

    name: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, without what a connection adds to every request.

    :param query: parameters of the URL, beside those that it has.
    :param content: the body; None for none.
    :param files: sent instead of ``content``, by field.
    """

    method: str
    url: str
    query: Mapping[str, str] | None
    headers: Mapping[str, str]
    content: bytes | None
    files: Mapping[str, File] | None = None

    @property
    def shown(self) -> str:
        """Method and URL for messages: without user, password and query."""
        return f"{self.method} {without_secrets(self.url)}"


def make_request(
    base_url: str,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    files: Mapping[str, File] | None = None,
) -> Request:
    """Return the request for ``path`` below ``base_url``; without a path, for ``base_url`` as it is.

    :param form: sent as ``application/x-www-form-urlencoded``.
    :param body: sent as JSON.
    :raises TransportError: the body cannot be JSON.
    """
    url = f"{base_url.rstrip('/')}/{path.lstrip('/')}" if path else base_url
    content, content_type = None, ""
    if form is not None:
        content, content_type = _encoded(form), "application/x-www-form-urlencoded"
    elif body is not None:
        try:
            content, content_type = json.dumps(body, allow_nan=False).encode(), "application/json"
        except (TypeError, ValueError) as error:
            raise TransportError(Failure.UNUSABLE, f"the body cannot be JSON: {error}") from error
    own = dict(headers or {})
    if content_type and not any(name.lower() == "content-type" for name in own):
        own["Content-Type"] = content_type
    return Request(method, url, query, own, content, files)


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _encoded(form: Mapping[str, str]) -> bytes:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in form.items()).encode()


@lru_cache(256)
def _quoted(text: str) -> str:
    # Long queries come again and again, and quoting one takes longer than sending it.
    return quote_plus(text)
