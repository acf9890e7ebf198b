"""Jira over HTTP: one request for one call, none ever repeated here, and errors that say what to do.

Not by way of the ``jira`` library, whose session sends a POST again when its answer is lost (one call then
files two to four issues), cuts ``Retry-After`` short, and cannot create an issue with its property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rollback_budget.exceptions import TicketError
from rollback_budget.transport.client import HttpClient, RequestsClient
from rollback_budget.transport.errors import Failure, TransportError
from rollback_budget.transport.policy import POLICY
from rollback_budget.transport.request import File
from rollback_budget.transport.response import Response

if TYPE_CHECKING:
    import requests

TIMEOUT = timedelta(seconds=30)
#: How long a rate limit holds that does not say it.
WAIT = timedelta(minutes=1)
PAGE = 50

_REMEDIES = {
    400: "Check the project, the issue type and the fields that its create screen requires"
    " (rollback-budget debt check-jira)",
    401: "Check the connection's login and password (or token); Jira may ask for a captcha in a browser",
    403: "Give the user the right to browse the project and to work on issues in it"
    " (rollback-budget debt check-jira)",
    404: "Check the connection's host and the project's key",
    410: "Check that the connection's host is the Jira that it was",
    413: "Raise Jira's limit for attachments",
}


class RefusedError(TicketError):
    """Jira's answer was no; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int, **how: Any) -> None:
        super().__init__(message, **how)
        self.status = status


class JiraApi:
    """A Jira, Cloud or Data Center, as one user sees it.

    Every method raises TicketError; it is ambiguous when something may have been written all the same.

    :param url: with scheme, for example ``https://example.atlassian.net``.
    :param user: with ``password`` (on Cloud: an API token) for basic authentication.
    :param token: personal access token; used instead of user and password.
    :param verify: whether to verify TLS certificates, or a file with trusted ones.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        verify: bool | str = True,
    ) -> None:
        self.url = url.rstrip("/")
        self._user = user
        self._password = password
        self._token = token
        self._verify = verify

    @cached_property
    def is_cloud(self) -> bool:
        """Whether this is Jira Cloud, which searches otherwise than Data Center."""
        info = self.get("/rest/api/2/serverInfo", "say what it is")
        return isinstance(info, dict) and str(info.get("deploymentType", "")).lower() == "cloud"

    def get(self, path: str, what: str, **params: Any) -> Any:
        """Return what Jira answers to a question.

        :param what: what is asked for, as it continues "refused to".
        """
        return self._call("GET", path, what, query=_query(params))

    def find(self, path: str, what: str, **params: Any) -> Any:
        """Return what Jira answers, None when it says that there is no such thing."""
        try:
            return self.get(path, what, **params)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, what: str, body: Mapping[str, Any]) -> Any:
        """Write something with one request."""
        return self._call("POST", path, what, writes=True, body=body)

    def put(self, path: str, what: str, body: Mapping[str, Any]) -> Any:
        """Bring something up to date with one request."""
        return self._call("PUT", path, what, writes=True, body=body)

    def upload(self, path: str, what: str, name: str, content: bytes, media_type: str) -> Any:
        """Attach a file with one request."""
        return self._call(
            "POST",
            path,
            what,
            writes=True,
            files={"file": File(name, content, media_type)},
            headers={"X-Atlassian-Token": "no-check"},
        )

    def search(
        self, jql: str, fields: Sequence[str], reconcile: Sequence[str] = ()
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the issues that a query finds, page by page.

        :param reconcile: issue ids (50 at most) of which Cloud shall use the newest, which its search
            otherwise lags behind; Data Center's does not.
        """
        yield from self._search_cloud(jql, fields, reconcile) if self.is_cloud else self._search(jql, fields)

    def _search_cloud(
        self, jql: str, fields: Sequence[str], reconcile: Sequence[str]
    ) -> Iterator[list[dict[str, Any]]]:
        body: dict[str, Any] = {"jql": jql, "maxResults": PAGE, "fields": list(fields)}
        ids = [int(one) for one in reconcile if one.isdigit()][:50]
        if ids:
            body["reconcileIssues"] = ids
        while True:
            # A question, though Atlassian lets it be asked by POST: nothing is written.
            page = self._call("POST", "/rest/api/2/search/jql", "search for tickets", body=body)
            with self._reading("search for tickets"):
                yield page["issues"]
                token = page.get("nextPageToken")
            if page.get("isLast") or not token:
                return
            body["nextPageToken"] = token

    def _search(self, jql: str, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        start = 0
        while True:
            page = self.get(
                "/rest/api/2/search",
                "search for tickets",
                jql=jql,
                startAt=start,
                maxResults=PAGE,
                fields=",".join(fields),
            )
            with self._reading("search for tickets"):
                issues, total = page["issues"], int(page["total"])
            yield issues
            start += len(issues)
            if not issues or start >= total:
                return

    def values(self, path: str, what: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return every item of a list that Jira hands out in pages by ``startAt``.

        :param names: what the list may be called; Cloud and Data Center differ.
        """
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, what, startAt=len(found), maxResults=PAGE)
            with self._reading(what):
                items = next(page[name] for name in names if name in page)
                found += items
                total = page.get("total", len(found))
            if not items or page.get("isLast") or len(found) >= total:
                return found

    def priorities(self) -> list[str]:
        """Return the names of the priorities, the highest first."""
        what = "list priorities"
        if self.is_cloud:
            found = self.values("/rest/api/2/priority/search", what, ["values"])
        else:
            found = self.get("/rest/api/2/priority", what)
        with self._reading(what):
            return [str(one["name"]) for one in found]

    @cached_property
    def _client(self) -> HttpClient:
        import requests

        session = requests.Session()
        session.verify = self._verify
        # As an authenticator, because a .netrc would win over a header.
        session.auth = self._authenticator()
        session.headers.update({"Accept": "application/json"})
        # One request for one call: not even a redirect makes a second one.
        return RequestsClient(session, self.url, has_credentials=True, policy=POLICY.with_redirects(0))

    def _authenticator(self) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
        from requests.auth import HTTPBasicAuth

        if self._user and not self._token:
            # Bytes, because requests takes text for Latin-1.
            return HTTPBasicAuth(self._user.encode(), (self._password or "").encode())
        token = self._token

        def bear(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            return request

        return bear

    def _call(self, method: str, path: str, what: str, *, writes: bool = False, **content: Any) -> Any:
        try:
            response = self._client.request(method, path, timeout=TIMEOUT, **content)
        except TransportError as error:
            if error.failure is Failure.UNUSABLE:
                raise TicketError(
                    f"{self.url} cannot be asked to {what} ({error.reason})."
                    " Check the connection's host, token and `verify`"
                ) from error
            raise TicketError(
                f"{self.url} did not answer the request to {what} ({error.reason})."
                " Check that it is up and that this host may reach it",
                ambiguous=writes and error.ambiguous,
            ) from error
        if not response.ok:
            raise self._refused(what, response, writes=writes)
        if not response.body:
            return None
        with self._reading(what, writes=writes):
            return response.json()

    @contextmanager
    def _reading(self, what: str, *, writes: bool = False) -> Iterator[None]:
        """Turn what an answer of the wrong shape raises into a TicketError."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, StopIteration) as error:
            raise TicketError(
                f"{self.url} answered the request to {what} unlike a Jira ({type(error).__name__})."
                " Check the connection's host",
                ambiguous=writes,
            ) from error

    def reading(self, what: str, *, writes: bool = False) -> Any:
        """Return the context in which an answer is taken apart."""
        return self._reading(what, writes=writes)

    def _refused(self, what: str, response: Response, *, writes: bool) -> RefusedError:
        status = response.status
        waits = status in (429, 503)
        wait = WAIT if (said := response.retry_after()) is None else said
        remedy = response.not_followed or _REMEDIES.get(status, "Try again later")
        return RefusedError(
            f"{self.url} refused to {what}: HTTP {status} {_said(response)}. {remedy}",
            status,
            ambiguous=writes and response.ambiguous,
            refused=not response.ambiguous and status not in (401, 409, 429),
            retry_after=wait if waits else None,
        )


def quoted(value: str) -> str:
    """Return ``value`` as a JQL string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _query(params: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the parameters of a URL; one without a value is left out."""
    return {name: str(value) for name, value in params.items() if value is not None} or None


def _said(response: Response) -> str:
    """Jira's own words; never the request, which holds the credentials."""
    try:
        body = response.json()
        words = [*body.get("errorMessages", ()), *(f"{k}: {v}" for k, v in body.get("errors", {}).items())]
        said = "; ".join(map(str, words)) or str(body.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        said = ""
    return " ".join(said.split())[:300].rstrip(".")
