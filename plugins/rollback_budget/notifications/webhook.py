"""Notifiers of our own, for what takes a plain HTTP request: any webhook, and Microsoft Teams."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from rollback_budget.exceptions import RollbackBudgetError

if TYPE_CHECKING:
    from airflow.sdk import Context

TIMEOUT = timedelta(seconds=10)


class WebhookNotifier(BaseNotifier):
    """
    Posts ``{"text": …, …}`` as JSON.

    :param http_conn_id: an ``http`` connection; a secret path or token belongs into it.
    :param text: for people.
    :param details: for programs, beside the text.
    :param endpoint: path below the connection's host.
    """

    def __init__(
        self,
        *,
        http_conn_id: str,
        text: str,
        details: Mapping[str, Any] | None = None,
        endpoint: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.text = text
        self.details = dict(details or {})
        self.endpoint = endpoint

    def notify(self, context: Context) -> None:  # noqa: ARG002
        """Post it once; raises :class:`RollbackBudgetError` when nothing or no success is answered."""
        from rollback_budget.hooks.http import open_blocking_http_client
        from rollback_budget.transport.errors import TransportError

        what = f"POST by the connection {self.http_conn_id}"
        with open_blocking_http_client(self.http_conn_id) as client:
            try:
                response = client.request("POST", self.endpoint, body=self.body(), timeout=TIMEOUT)
            except TransportError as error:
                # The address itself may be the secret.
                raise TransportError(error.failure, error.reason, request=what) from None
        if not response.ok:
            said = "a redirect, which is never followed" if response.not_followed else response.quote
            raise RollbackBudgetError(f"{what} was answered with {response.status}: {said}")

    def body(self) -> dict[str, Any]:
        """Return what is posted."""
        return {**self.details, "text": self.text}


class TeamsNotifier(WebhookNotifier):
    """
    Posts a card to a workflow of Microsoft Teams that was made for webhooks.

    :param http_conn_id: an ``http`` connection whose host is the URL of the workflow.
    """

    def body(self) -> dict[str, Any]:
        """Return the card; its text is plain, without Markdown."""
        block = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": self.text}]}
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [block],
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        return {"type": "message", "attachments": [attachment]}
