"""Text as detectors see it: without what hides a number or an address from them, but not from a reader."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text; ``origin[i]`` is the place in the original of the character at ``i``."""

    text: str
    origin: range | list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a non-empty stretch of the folded text stands in the original."""
        return self.origin[start], self.origin[end - 1] + 1


def fold(text: str) -> Folded:
    """Drop invisible characters, and write digits, letters and signs of other forms as their ASCII ones."""
    if text.isascii():
        return Folded(text, range(len(text)))
    folded: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text):
        for plain in _plain(character):
            folded.append(plain)
            origin.append(place)
    return Folded("".join(folded), origin)


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
