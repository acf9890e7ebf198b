"""Text for a terminal."""

from __future__ import annotations


def shown(text: str) -> str:
    """Escape what a terminal would act on: names are data."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
