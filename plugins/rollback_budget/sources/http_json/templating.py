"""Placeholders in requests: whole strings that stand for data; nothing is pasted into text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote


def range_values(start: datetime, end: datetime) -> dict[str, Any]:
    """Return the placeholders of a range of time."""
    first, last = start.timestamp(), end.timestamp()
    return {
        "$start": iso_millis(start),
        "$end": iso_millis(end),
        "$start_s": int(first),
        "$end_s": int(last),
        "$start_ms": round(first * 1000),
        "$end_ms": round(last * 1000),
    }


def iso_millis(time: datetime) -> str:
    """Return a time as JSON APIs take it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Replace every whole string that names a placeholder, at any depth."""
    if isinstance(template, str):
        return values.get(template, template)
    if isinstance(template, Mapping):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [fill(item, values) for item in template]
    return template


def fill_path(path: str, values: Mapping[str, Any]) -> str:
    """Replace the parts of a path that name a placeholder, escaped."""
    return "/".join(quote(str(values[part]), safe="") if part in values else part for part in path.split("/"))


def as_text(value: Any) -> str:
    """Return a parameter of a URL: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
