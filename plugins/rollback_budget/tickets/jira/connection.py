"""From an Airflow ``jira`` connection to the tracker that it describes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rollback_budget.exceptions import TicketError
from rollback_budget.model.reading import read
from rollback_budget.model.ticket import TicketFields
from rollback_budget.tickets.base import RunLink, no_link
from rollback_budget.tickets.jira.api import JiraApi
from rollback_budget.tickets.jira.tracker import SETTLE, JiraTracker


def tracker_from_jira_connection(
    host: str | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
    *,
    run_link: RunLink = no_link,
) -> JiraTracker:
    """Return the tracker that an Airflow ``jira`` connection describes.

    ``host`` (with scheme), ``login``, ``password`` and ``verify`` are as the Atlassian provider defines them.
    ``extra`` may also hold ``token`` (a personal access token), ``settle_s`` (seconds), and every key of
    ``tickets:`` of a budget file, as the default for those that leave it out. Raises TicketError saying what
    cannot be used.
    """
    api, fields = api_from_jira_connection(host, login, password, extra), fields_of_extra(extra)
    try:
        settle = timedelta(seconds=float(extra.get("settle_s", SETTLE.total_seconds())))
    except (TypeError, ValueError, OverflowError):
        raise TicketError("settle_s in the jira connection's extra must be a number of seconds") from None
    return JiraTracker(api, fields, settle=settle, run_link=run_link)


def api_from_jira_connection(
    host: str | None, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> JiraApi:
    """Return the Jira of a connection. Raises TicketError."""
    # Links are made of the host, so it must not hold a password.
    if not host or not re.fullmatch(r"https?://[^/@]+(/[^@]*)?", host):
        raise TicketError(
            "the jira connection's host must be a URL with scheme and without a user, such as"
            " https://jira.example.com"
        )
    token = extra.get("token")
    return JiraApi(
        host,
        user=login,
        password=password,
        token=str(token) if token else None,
        verify=_verify(extra.get("verify", True)),
    )


def fields_of_extra(extra: Mapping[str, Any]) -> TicketFields:
    """Return the fields that a connection's extra gives. Raises TicketError."""
    said = {name: extra[name] for name in TicketFields.model_fields if name in extra}
    fields, mistakes = read(TicketFields, said)
    if fields is None:
        wrong = "; ".join(f"{'.'.join(map(str, one.loc))}: {one.message}" for one in mistakes)
        raise TicketError(f"the jira connection's extra cannot be used: {wrong}")
    return fields


def _verify(value: Any) -> bool | str:
    if value is None:
        return True
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value if isinstance(value, str) else bool(value)
