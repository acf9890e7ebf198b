"""Notifiers of our own, for what takes a plain HTTP request: any webhook, and Microsoft Teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

if TYPE_CHECKING:
    from airflow.sdk import Context

TIMEOUT_S = 10


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
        """Post it; raises when the answer is not a success."""
        from airflow.providers.http.hooks.http import HttpHook

        hook = HttpHook(method="POST", http_conn_id=self.http_conn_id)
        hook.run(self.endpoint, json=self.body(), extra_options={"timeout": TIMEOUT_S})

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
