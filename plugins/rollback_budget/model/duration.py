"""Durations as a budget file writes them: ``24h``, ``90s``, ``1m30s``, ``250ms``."""

from __future__ import annotations

import re
from datetime import timedelta

DURATION_PATTERN = r"^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
LONGEST = timedelta(days=365)

_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_UNITS = (
    ("d", "d", timedelta(days=1)),
    ("h", "h", timedelta(hours=1)),
    ("m", "min", timedelta(minutes=1)),
    ("s", "s", timedelta(seconds=1)),
    ("ms", "ms", timedelta(milliseconds=1)),
)
_EXAMPLE = "write it like 20m, 24h, 90s or 1m30s"


def parse_duration(text: str) -> timedelta:
    """Read ``1d2h3m4s5ms``: whole numbers, largest unit first, any of them left out.

    Raises ValueError with what is wrong and how to write it right.
    """
    match = _PARTS.fullmatch(text)
    if match is None or not text:
        if text.startswith("-"):
            raise ValueError(f"negative, and a duration cannot be; {_EXAMPLE}")
        raise ValueError(f"not a duration; {_EXAMPLE}")
    numbers = [int(part[:18]) if part else 0 for part in match.groups()]
    seconds = sum(n * unit.total_seconds() for n, (_, _, unit) in zip(numbers, _UNITS, strict=True))
    if seconds > LONGEST.total_seconds():
        raise ValueError(
            f"a duration longer than {write_duration(LONGEST)} is surely a mistake; write no more than that"
        )
    return sum((n * unit for n, (_, _, unit) in zip(numbers, _UNITS, strict=True)), timedelta())


def write_duration(duration: timedelta) -> str:
    """Write a duration as a budget file would, down to the millisecond: ``1m30s``, ``0m`` for none."""
    return "".join(f"{n}{short}" for n, short, _ in _split(duration)) or "0m"


def say_duration(duration: timedelta) -> str:
    """Write a duration for a sentence: ``20 min``, ``1 h 30 min``."""
    return " ".join(f"{n} {long}" for n, _, long in _split(duration)) or "0 min"


def _split(duration: timedelta) -> list[tuple[int, str, str]]:
    """Return how many of which unit a duration holds; 24 h stays 24 h, days begin at two."""
    parts = []
    rest = duration
    for short, long, unit in _UNITS:
        if short == "d" and rest < 2 * unit:
            continue
        n, rest = divmod(rest, unit)
        if n:
            parts.append((n, short, long))
    return parts
