"""Failing requests that a person brings: JSON Lines, one request a line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, JsonValue, TypeAdapter, ValidationError

from rollback_budget.cases.failed_request import FailedRequest, content_of
from rollback_budget.cases.jsonl import read_json
from rollback_budget.exceptions import CaseError

_KEYS = {"input", "output", "trace_id", "time", "slice", "metadata"}
_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def read_upload(path: Path) -> list[FailedRequest]:
    """Return the requests of a file. Raises CaseError naming every line that is none.

    A line is an object with ``input`` and maybe ``output``, ``trace_id``, ``time`` (ISO 8601 with an
    offset), ``slice`` and ``metadata``; further keys are metadata. A line that is a text is an input.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read: {error}") from error
    problems: list[str] = []
    found = list(_requests(path, content, problems))
    if problems:
        raise CaseError("\n".join(problems))
    if not found:
        raise CaseError(f'{path}: holds no request; write one JSON object a line: {{"input": "..."}}')
    return found


def _requests(path: Path, content: str, problems: list[str]) -> Iterator[FailedRequest]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _request(read_json(line))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")


def _request(value: Any) -> FailedRequest:
    if isinstance(value, str):
        value = {"input": value}
    if not isinstance(value, dict) or value.get("input") in (None, "", [], {}):
        raise ValueError('a request needs its input: {"input": "what was asked"}')
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError("metadata is a JSON object")
    further: dict[str, JsonValue] = {key: item for key, item in value.items() if key not in _KEYS}
    for key in ("trace_id", "slice"):
        if not isinstance(value.get(key), str | None):
            raise ValueError(f"{key} is a text")
    try:
        at = None if value.get("time") is None else _TIME.validate_python(value["time"]).astimezone(UTC)
    except ValidationError:
        raise ValueError(f"time is ISO 8601 with its offset, not {value['time']!r}") from None
    return FailedRequest(
        input=content_of(value["input"]),
        output=content_of(value.get("output")),
        trace_id=value.get("trace_id"),
        time=at,
        slice=value.get("slice"),
        metadata={**further, **metadata},
    )
