"""Truncation: long texts of a case are cut, with a mark that says how much was left out."""

from __future__ import annotations

import re

from pydantic import JsonValue

from rollback_budget.cases.jsonl import write_json

_MARK_AT_END = re.compile(r"\[redacted:[a-z0-9_]*$|\[redacted?$|\[[a-z]*$")


def truncate(value: JsonValue, longest: int) -> tuple[JsonValue, int]:
    """Return ``value`` with at most ``longest`` characters of text, and how many were left out.

    The texts within it share the length: short ones stay whole, long ones are cut to one length. What is long
    by the number of its parts becomes the beginning of its JSON. Every cut ends in
    ``[... N characters left out]``.
    """
    lengths = sorted(len(text) for text in _texts(value))
    if _size(value) <= longest:
        return value, 0
    each = _share(lengths, longest - (_size(value) - sum(lengths)))
    if each < 1:
        text = write_json(value)
        return _truncate_text(text, longest), len(text) - longest
    left_out = sum(max(length - each, 0) for length in lengths)
    return _truncate_texts(value, each), left_out


def _share(lengths: list[int], room: int) -> int:
    """Return the greatest length that every text may have, so that all together fit into ``room``."""
    for place, length in enumerate(lengths):
        each = room // (len(lengths) - place)
        if length > each:
            return each
        room -= length
    return lengths[-1] if lengths else 0


def _texts(value: JsonValue) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in _texts(item)]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case _:
            return []


def _size(value: JsonValue) -> int:
    """Return the number of characters of all texts, keys and the JSON around them."""
    match value:
        case str():
            return len(value)
        case list():
            return sum(_size(item) + 2 for item in value)
        case dict():
            return sum(len(key) + _size(item) + 4 for key, item in value.items())
        case _:
            return len(str(value))


def _truncate_texts(value: JsonValue, each: int) -> JsonValue:
    match value:
        case str():
            return _truncate_text(value, each)
        case list():
            return [_truncate_texts(item, each) for item in value]
        case dict():
            return {key: _truncate_texts(item, each) for key, item in value.items()}
        case _:
            return value


def _truncate_text(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    # Half a mark of a redaction would look like something that a person wrote.
    kept = _MARK_AT_END.sub("", text[:length])
    return f"{kept}[... {len(text) - len(kept)} characters left out]"
