"""What is wrong with something that a person wrote, in words that name the place and the way out."""

from __future__ import annotations

import difflib
from datetime import date
from typing import NamedTuple

Loc = tuple[str | int, ...]


class Mistake(NamedTuple):
    """One thing wrong.

    :param loc: keys and positions that lead to it.
    :param message: what is wrong; what sort of sentence it is, ``kind`` says.
    :param kind: ``rule`` (a whole sentence), ``key`` (the same, about the key itself), ``absent`` (the same,
        about what is not there), ``wrong`` (goes on where a sentence began with the key), or pydantic's own.
    """

    loc: Loc
    message: str
    kind: str


class WrongValueError(ValueError):
    """A value that cannot be read; its text goes on where a sentence began with the value's key."""


def wrong(message: str) -> WrongValueError:
    """Return the error that a value is wrong; ``message`` continues a sentence that begins with its key."""
    return WrongValueError(message)


def mistake(loc: Loc, message: str, kind: str = "rule") -> Mistake:
    """Return the mistake that something at ``loc`` is wrong; ``message`` is a whole sentence."""
    return Mistake(loc, message, kind)


def nearest(word: str, known: list[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that was probably meant; what is far too long for a word was none of them."""
    if len(word) > 100:
        return None
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), None)


def quote(text: str) -> str:
    """Show data inside a one-line message: quoted, escaped, and cut when very long."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
    if not shown.isprintable():
        escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)
    return f'"{escaped}"'


def name_type(value: object) -> str:
    """Name what YAML took a value for, as a person would say it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case date():
            return "a date"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return "text"
