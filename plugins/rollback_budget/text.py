"""Texts for people: nouns behind numbers, and names made safe for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Words with an ``s`` that are no plural: ``ms``, ``bps``, ``loss``, ``status``, ``axis``.
_NO_PLURAL = re.compile(r"[^aeiouAEIOU]*|.*(?:ss|us|is)|(?:.*_)?series")


def plural(count: float, noun: str) -> str:
    """Return a number with its noun: ``1 case``, ``2 cases``, ``0 queries``.

    :param noun: in the singular; of several words the last one is inflected.
    """
    if count == 1:
        return f"{count} {noun}"
    if re.search(r"[^aeiou]y$", noun):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def counted(number: str, plural_noun: str) -> str:
    """Return a number with a noun that is given in the plural: ``1 incident``, ``2 incidents``, ``1 ms``.

    :param number: as it is shown.
    :param plural_noun: a unit or a metric's name.
    """
    return f"{number} {singular(plural_noun) if number in ('1', '-1') else plural_noun}"


def singular(plural_noun: str) -> str:
    """Return the singular of a noun in the plural; a word that is none as it is."""
    if not plural_noun.endswith("s") or not plural_noun.isidentifier() or _NO_PLURAL.fullmatch(plural_noun):
        return plural_noun
    if plural_noun.endswith("ies"):
        return f"{plural_noun[:-3]}y"
    if plural_noun.endswith(("sses", "xes", "ches", "shes")):
        return plural_noun[:-2]
    return plural_noun[:-1]


def joined(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def printable(text: str) -> str:
    """Escape what a terminal or a log would act on: names and reasons are data."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
