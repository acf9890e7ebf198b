"""What is wrong with the requests of a budget file: JMESPath, placeholders, and what JSON cannot carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rollback_budget.model.mistake import Loc, Mistake, mistake, name_type, nearest, quote

_PLACEHOLDER = re.compile(r"\$\w+")


def not_jmespath(data: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield a mistake for every text under ``keys`` that is no JMESPath."""
    # Only a file with such a source needs it: parsing DAGs must stay light.
    import jmespath
    from jmespath.exceptions import JMESPathError

    for key in keys:
        text = data.get(key)
        if not isinstance(text, str) or not text:
            continue
        try:
            jmespath.compile(text)
        except JMESPathError as error:
            said = " ".join(str(error).split())
            yield mistake((key,), f"`{key}` is no JMESPath ({quote(text)}): {said}")


def unknown_placeholders(value: object, loc: Loc, known: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield a mistake for every text within ``value`` that looks like a placeholder and is none."""
    match value:
        case dict():
            for key, child in value.items():
                yield from unknown_placeholders(child, (*loc, key), known)
        case list():
            for at, child in enumerate(value):
                yield from unknown_placeholders(child, (*loc, at), known)
        case str():
            yield from unknown_placeholder(value, loc, known)


def unknown_placeholder(text: str, loc: Loc, known: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield a mistake for a text that looks like a placeholder and is none."""
    if _PLACEHOLDER.fullmatch(text) and text not in known:
        meant = nearest(text, list(known))
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
        yield mistake(loc, f"{quote(text)} is no placeholder; {hint}")


def request_mistakes(data: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield unknown placeholders in path, query and body, and what JSON cannot carry."""
    path = data.get("path")
    for part in path.split("/") if isinstance(path, str) else ():
        yield from unknown_placeholder(part, ("path",), known)
    for key in ("query", "body"):
        yield from not_json(data.get(key), (key,))
        yield from unknown_placeholders(data.get(key), (key,), known)


def texts_of(value: object) -> set[str]:
    """Return every text within ``value`` that is not a key."""
    match value:
        case dict():
            return {text for child in value.values() for text in texts_of(child)}
        case list() | tuple():
            return {text for child in value for text in texts_of(child)}
        case str():
            return {value}
    return set()


def not_json(value: object, loc: Loc) -> Iterator[Mistake]:
    """Yield a mistake for every value that JSON cannot carry, such as a date."""
    match value:
        case dict():
            for key, child in value.items():
                yield from not_json(child, (*loc, key))
        case list():
            for at, child in enumerate(value):
                yield from not_json(child, (*loc, at))
        case None | str() | int():
            return
        case float() if value - value == 0:
            return
        case _:
            yield mistake(loc, f"JSON has no {name_type(value).removeprefix('a ')} {value}; put it in quotes")
