"""The id of a case: the same for the same input, metric and slice."""

from __future__ import annotations

import hashlib
import unicodedata

from pydantic import JsonValue

from rollback_budget.cases.jsonl import write_json


def case_id(input_: JsonValue, metric: str, slice: str | None) -> str:  # noqa: A002 - the design's word
    """Return a case's id; the same in every debt, release and year.

    :param input_: the input, redacted, so that two requests that differ in a name of a person are one case.
    """
    return f"case-{sha256([normalised(input_), metric, slice])[:20]}"


def sha256(content: JsonValue) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``content``; of an input, it shows a change."""
    return hashlib.sha256(write_json(content).encode()).hexdigest()


def normalised(value: JsonValue) -> JsonValue:
    """Return ``value`` without what makes no difference: case, spacing, forms of one character."""
    match value:
        case str():
            return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
        case list():
            return [normalised(item) for item in value]
        case dict():
            return {key: normalised(item) for key, item in value.items()}
        case _:
            return value
