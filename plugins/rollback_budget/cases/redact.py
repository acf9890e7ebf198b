"""Redaction: replaces addresses, phone and card numbers, keys and tokens before a case is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue

from rollback_budget.cases.pii_detectors import (
    SECRET_KEY,
    Detector,
    Span,
    cards,
    emails,
    of_patterns,
    phones,
    secrets,
)
from rollback_budget.model.case_source import Redaction


class Redactor:
    """Replaces what it finds by ``[redacted:<kind>]``.

    Redacting a redacted text changes nothing. Texts are normalised for the detectors first: invisible
    characters, digits of other scripts and wide forms would hide a number from them, but not from a reader.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._detectors: dict[str, Detector] = {
            name: of_patterns([re.compile(pattern)]) for name, pattern in redaction.patterns.items()
        }
        self._detectors |= {
            "secret": secrets,
            "email": emails,
            "card": cards,
            "phone": partial(phones, regions=redaction.phone_regions),
        }
        kinds = "|".join(re.escape(kind) for kind in self._detectors)
        self._marks = re.compile(rf"\[redacted:(?:{kinds})\]")

    def redact(self, value: JsonValue) -> JsonValue:
        """Return ``value`` without what must not be written, in texts, keys and long numbers at any depth.

        :raises CaseError: a library for it is not installed; nothing is ever left out silently.
        """
        match value:
            case str():
                return self.text(value)
            case bool() | None:
                return value
            case int() | float():
                written = str(value)
                redacted = self.text(written) if len(written) >= 9 else written
                return value if redacted == written else redacted
            case list():
                return [self.redact(item) for item in value]
            case dict():
                return self._object(value)
        raise AssertionError(value)

    def text(self, text: str) -> str:
        """Return a text without what must not be written."""
        while True:
            redacted = self._pass(text)
            # A mark in the place of one find may uncover another: repeat until nothing is found.
            if redacted == text:
                return text
            text = redacted

    def _object(self, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        made: dict[str, JsonValue] = {}
        for key, item in value.items():
            name = self.text(key)
            while name in made:
                name += "'"
            hidden = isinstance(item, str) and item and SECRET_KEY.search(key)
            made[name] = "[redacted:secret]" if hidden else self.redact(item)
        return made

    def _pass(self, text: str) -> str:
        parts: list[str] = []
        last = 0
        for mark in self._marks.finditer(text):
            parts += [self._redact_text(text[last : mark.start()]), mark.group()]
            last = mark.end()
        parts.append(self._redact_text(text[last:]))
        return "".join(parts)

    def _redact_text(self, text: str) -> str:
        if len(text) < 3:
            return text
        normalised = normalise_unicode(text)
        found = [
            (*normalised.span(start, end), kind)
            for kind, find in self._detectors.items()
            for start, end in find(normalised.text)
        ]
        parts: list[str] = []
        last = 0
        for (start, end), kind in _apart(found):
            parts += [text[last:start], f"[redacted:{kind}]"]
            last = end
        return "".join([*parts, text[last:]])


def _apart(found: list[tuple[int, int, str]]) -> Iterator[tuple[Span, str]]:
    """Yield finds in order; those that overlap as one, under the name of the longest."""
    held: list[tuple[int, int, str]] = []
    reach = -1
    for one in sorted(found):
        if held and one[0] >= reach:
            yield _one(held)
            held = []
        held.append(one)
        reach = max(reach, one[1]) if len(held) > 1 else one[1]
    if held:
        yield _one(held)


def _one(held: list[tuple[int, int, str]]) -> tuple[Span, str]:
    kind = max(held, key=lambda one: one[1] - one[0])[2]
    return (min(one[0] for one in held), max(one[1] for one in held)), kind


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """Text as detectors see it; ``origin[i]`` is the place in the original of the character at ``i``."""

    text: str
    origin: range | list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a non-empty part of the normalised text is in the original."""
        return self.origin[start], self.origin[end - 1] + 1


def normalise_unicode(text: str) -> NormalisedText:
    """Drop invisible characters, and write digits, letters and signs of other forms as their ASCII ones."""
    if text.isascii():
        return NormalisedText(text, range(len(text)))
    normalised: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text):
        for plain in _plain(character):
            normalised.append(plain)
            origin.append(place)
    return NormalisedText("".join(normalised), origin)


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if unicodedata.category(character) == "Cf":
        return ""
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(character) == "Pd":
        return "-"
    return unicodedata.normalize("NFKC", character)
