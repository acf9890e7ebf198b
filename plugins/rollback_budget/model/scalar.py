"""Single values as a budget file writes them, read strictly: nothing that only looks like a number is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

from rollback_budget.model.duration import LONGEST, parse_duration, write_duration
from rollback_budget.model.mistake import name_type, quote, wrong


def read_number(value: object) -> float:
    """Accept a finite number, and nothing that only looks like one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = ""
        if isinstance(value, str):
            stripped = value.strip().removesuffix("%").strip()
            hint = f"; write {_number_in(stripped)} without quotes or unit" if _number_in(stripped) else ""
        shown = quote(value) if isinstance(value, str) else name_type(value)
        raise wrong(f"must be a number, not {shown}{hint}")
    if isinstance(value, int) and abs(value) > 2**53:
        raise wrong("is larger than any metric")
    if not math.isfinite(value):
        raise wrong("must be a finite number")
    return float(value)


def _number_in(text: str) -> str | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return f"{number:g}" if math.isfinite(number) else None


def read_integer(value: object) -> int:
    """Accept a whole number."""
    number = read_number(value)
    if not number.is_integer():
        raise wrong("must be a whole number")
    return int(number)


def read_boolean(value: object) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise wrong("must be true or false, without quotes")
    return value


def read_duration(value: object) -> timedelta:
    """Accept a duration with its unit, or one that has been read."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong(f"must be a duration such as 20m, not {name_type(value)}")
    if not isinstance(value, str):
        if not math.isfinite(value) or value < 0:
            raise wrong("must be a duration such as 20m, and not negative")
        raise wrong(f"is a duration and needs its unit; write {value:g}m for minutes, {value:g}s for seconds")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise wrong(f"{quote(value)} is {error}" if "duration" in str(error) else str(error)) from error


def read_minutes(value: object) -> timedelta:
    """Accept a number of minutes, fractions allowed."""
    minutes = read_number(value)
    if minutes < 0:
        raise wrong("cannot be negative; write how many minutes may be used up, such as 20")
    if minutes * 60 > LONGEST.total_seconds():
        raise wrong(f"is longer than {write_duration(LONGEST)}, which is surely a mistake")
    return timedelta(minutes=minutes)


_READERS: dict[Any, Callable[[object], object]] = {
    timedelta: read_duration,
    float: read_number,
    int: read_integer,
    bool: read_boolean,
}


def read_as(annotation: Any, value: object) -> object:
    """Read a scalar as a field's type says; what is no scalar type is left to pydantic."""
    members = get_args(annotation) if type(None) in get_args(annotation) or _has_literal(annotation) else ()
    for member in members or (annotation,):
        if get_origin(member) is Literal and value in get_args(member):
            return value
    if value is None and type(None) in members:
        return None
    for member in members or (annotation,):
        if member in _READERS:
            return _READERS[member](value)
    return value


def _has_literal(annotation: Any) -> bool:
    return any(get_origin(member) is Literal for member in get_args(annotation))
