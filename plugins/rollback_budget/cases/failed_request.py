"""A failing request as a source gave it: nothing redacted, nothing written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

_CHAT_KEYS = {"role", "content"}


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """One request of the breached release.

    :param input: what was asked; None when the source keeps no content.
    :param output: what was answered.
    """

    input: JsonValue
    output: JsonValue = None
    trace_id: str | None = None
    time: datetime | None = None
    slice: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def has_content(self) -> bool:
        """Whether it can be asked again."""
        return self.input not in (None, "", [], {})


def content_of(stored: JsonValue) -> JsonValue:
    """Return what a column holds: chat messages that are stored as text become messages, all else stays."""
    if not isinstance(stored, str) or not stored.lstrip().startswith(("[", "{")):
        return stored
    try:
        value = json.loads(stored)
    except (ValueError, RecursionError):
        return stored
    messages = value.get("messages") if isinstance(value, dict) and set(value) == {"messages"} else value
    return messages if is_chat(messages) else stored


def is_chat(value: object) -> bool:
    """Whether ``value`` is a list of chat messages, as most model APIs take them."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and item.keys() >= _CHAT_KEYS for item in value)
        and all(isinstance(item["role"], str) for item in value)
    )
