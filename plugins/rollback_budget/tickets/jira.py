"""Jira tickets, on Cloud and Data Center: one request, no retries by the client, looked up by label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rollback_budget.errors import TicketError
from rollback_budget.ledger.debt_records import Debt
from rollback_budget.ledger.records import LoggedBreach
from rollback_budget.tickets.description import Description, describe
from rollback_budget.tickets.tracker import TicketRef

if TYPE_CHECKING:
    import jira

#: Seconds to connect and to read.
TIMEOUT_S = (5, 30)
#: Longer than Jira Cloud's search lags behind, as a rule.
SETTLE = timedelta(minutes=5)

_SUMMARY_LENGTH = 255
_DESCRIPTION_LENGTH = 32_000
_PAGE = 50
_WIKI = re.compile(r"([{}\[\]*_\-+^~?!|#@()<>:])")
_REMEDIES = {
    400: "Check the project, the issue type and the fields that its create screen requires",
    401: "Check the connection's login and password (or token); Jira may ask for a captcha in a browser",
    403: "Give the user the right to browse the project and to create issues in it",
    404: "Check the connection's host and the project's key",
}


class JiraTracker:
    """Files debts as issues.

    :param url: with scheme, for example ``https://example.atlassian.net``.
    :param project: the project's key.
    :param issue_type: name of the issue type.
    :param user: with ``password`` (on Cloud: an API token) for basic authentication.
    :param token: personal access token; used instead of user and password.
    :param verify: whether to verify TLS certificates, or a file with trusted ones.
    :param settle: how long Jira's search may lag behind what was created.
    """

    name = "jira"

    def __init__(
        self,
        url: str,
        project: str,
        *,
        issue_type: str = "Task",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        verify: bool | str = True,
        settle: timedelta = SETTLE,
    ) -> None:
        self.settle = settle
        self._url = url.rstrip("/")
        self._project = project
        self._issue_type = issue_type
        self._user = user
        self._password = password
        self._token = token
        self._verify = verify

    def find(self, debt: Debt) -> TicketRef | None:
        """Return the oldest issue that carries the debt's label. Raises TicketError."""
        query = f"project = {_quoted(self._project)} AND labels = {_quoted(debt.label)} ORDER BY created ASC"
        with self._asking("search for a ticket"):
            issues = list(self._client.search_issues(query, maxResults=_PAGE, fields=["labels"]))
            # A server that did not understand a clause returns other people's issues.
            labelled = [issue for issue in issues if debt.label in issue.raw["fields"].get("labels", ())]
        if not labelled and len(issues) == _PAGE:
            raise TicketError(
                f"{self._url} did not search by label, so nobody can say whether a ticket exists."
                " Check what stands between this host and Jira"
            )
        return self._ref(min(labelled, key=lambda issue: int(issue.id)).key) if labelled else None

    def create(self, debt: Debt, breaches: Sequence[LoggedBreach]) -> TicketRef:
        """Create the issue with a single POST. Raises TicketError, ambiguous when the issue may exist."""
        description = describe(debt, breaches)
        fields = {
            "project": {"key": self._project},
            "issuetype": {"name": self._issue_type},
            "summary": " ".join(description.title.split())[:_SUMMARY_LENGTH],
            "description": render(description)[:_DESCRIPTION_LENGTH],
            "labels": ["rollback-budget", debt.label],
        }
        with self._asking("connect"):
            client = self._client
        with self._asking("create a ticket", creating=True):
            return self._ref(client.create_issue(fields=fields, prefetch=False).key)

    def refresh(self, ref: TicketRef, debt: Debt, breaches: Sequence[LoggedBreach]) -> None:
        """Leave the issue alone: once it is filed its text is people's, and the ledger counts breaches."""

    @cached_property
    def _client(self) -> jira.JIRA:
        try:
            import jira
        except ImportError as error:
            raise TicketError(
                "the jira library is not installed. Run: pip install 'rollback-budget[jira]'"
            ) from error
        basic = (self._user, self._password or "") if self._user and not self._token else None
        return jira.JIRA(
            server=self._url,
            options={"verify": self._verify},
            basic_auth=basic,
            token_auth=self._token,
            # The library's own retries repeat a POST whose answer was lost, and so file it twice.
            max_retries=0,
            timeout=TIMEOUT_S,
            logging=False,
        )

    def _ref(self, key: str) -> TicketRef:
        return TicketRef(key, f"{self._url}/browse/{key}")

    @contextmanager
    def _asking(self, what: str, *, creating: bool = False) -> Iterator[None]:
        """Turn what the library raises into a TicketError; anything unclear while creating is ambiguous."""
        import requests

        try:
            yield
        except TicketError:
            raise
        except (requests.ConnectionError, requests.Timeout) as error:
            raise TicketError(
                f"{self._url} did not answer the request to {what} ({type(error).__name__})."
                " Check that it is up and that this host may reach it",
                ambiguous=creating and not _never_sent(error),
            ) from error
        except Exception as error:
            response = getattr(error, "response", None)
            if response is not None and not response.ok:
                raise self._refused(what, response, error, creating=creating) from None
            raise TicketError(
                f"{self._url} answered the request to {what} unlike a Jira ({type(error).__name__})."
                " Check the connection's host",
                ambiguous=creating,
            ) from error

    def _refused(self, what: str, response: Any, error: Exception, *, creating: bool) -> TicketError:
        status = response.status_code
        # Only the library's own text: its str() holds the request with its credentials.
        said = " ".join(str(getattr(error, "text", "") or "").split())[:300]
        remedy = _REMEDIES.get(status, "Try again later")
        return TicketError(
            f"{self._url} refused to {what}: HTTP {status} {said}. {remedy}",
            ambiguous=creating and not (400 <= status < 500 and status != 408),
            retry_after=_retry_after(response.headers) if status == 429 else None,
        )


def tracker_from_jira_connection(
    host: str | None, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> JiraTracker:
    """Return the tracker that an Airflow ``jira`` connection describes.

    ``host`` (with scheme), ``login``, ``password`` and ``verify`` are as the Atlassian provider defines them.
    ``extra`` also holds ``project``, and may hold ``issue_type``, ``token`` (a personal access token) and
    ``settle_s`` (seconds). Raises TicketError naming what is missing.
    """
    # Links are made of the host, so it must not hold a password.
    if not host or not re.fullmatch(r"https?://[^/@]+(/[^@]*)?", host):
        raise TicketError(
            "the jira connection's host must be a URL with scheme and without a user, such as"
            " https://jira.example.com"
        )
    project = extra.get("project")
    if not project:
        raise TicketError('the jira connection names no project: add {"project": "KEY"} to its extra')
    try:
        settle = timedelta(seconds=float(extra.get("settle_s", SETTLE.total_seconds())))
    except (TypeError, ValueError, OverflowError):
        raise TicketError("settle_s in the jira connection's extra must be a number of seconds") from None
    return JiraTracker(
        host,
        str(project),
        issue_type=str(extra.get("issue_type", "Task")),
        user=login,
        password=password,
        token=extra.get("token"),
        verify=_verify(extra.get("verify", True)),
        settle=settle,
    )


def render(description: Description) -> str:
    """Return a description as Jira wiki text."""
    lines = [f"* {name}: {escape(value)}" for name, value in description.facts]
    lines += ["", "h3. Breaches", ""]
    for moment, rollout, sentence in description.breaches:
        lines += [f"* {escape(moment)}, {escape(rollout)}: {escape(sentence)}"]
    lines += ["", "h3. How to pay", "", *description.how_to_pay]
    return "\n".join(lines)


def escape(value: str) -> str:
    """Return ``value`` as wiki text on one line, without any markup, link or mention of its own."""
    # Two backslashes are a line break in wiki text, so a backslash cannot escape itself.
    parts = " ".join(value.split()).split("\\")
    return "&#92;".join(_WIKI.sub(r"\\\1", part.replace("&", "&amp;")) for part in parts)


def _quoted(value: str) -> str:
    """Return ``value`` as a JQL string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value if isinstance(value, str) else bool(value)


def _never_sent(error: Exception) -> bool:
    """Whether no connection was made at all, so that nothing can have been created."""
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _retry_after(headers: Mapping[str, str]) -> timedelta:
    """Read ``Retry-After``, seconds or an HTTP date; a minute when it says nothing that can be read."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return timedelta(seconds=int(value))
    try:
        return max(parsedate_to_datetime(value) - datetime.now(UTC), timedelta(0))
    except (TypeError, ValueError):
        return timedelta(minutes=1)
