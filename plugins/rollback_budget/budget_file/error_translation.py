"""From pydantic's errors to problems at the places of the file."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rollback_budget.budget_file.yaml_tree import (
    Entries,
    Items,
    Node,
    Place,
    Scalar,
    locate,
    name_type,
    quote,
)
from rollback_budget.exceptions import Problem

_SENTENCES = {"rule", "key", "absent"}
_PLAIN_WORDS = {
    "dict_type": "must be a mapping (lines of `key: value`)",
    "model_type": "must be a mapping (lines of `key: value`)",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}


def translate(error: ValidationError, tree: Entries, *, complete: bool) -> list[Problem]:
    """Return one problem for each error.

    :param complete: False leaves out what is missing, because an inherited file could not be read.
    """
    errors = error.errors(include_url=False, include_context=False)
    return [_problem(item, tree) for item in errors if complete or item["type"] != "absent"]


def _problem(item: ErrorDetails, tree: Entries) -> Problem:
    loc = item["loc"]
    node = locate(tree, loc)
    if item["type"] in _SENTENCES:
        place = _key_place(tree, loc) if item["type"] == "key" else node.place
        return place.problem(item["msg"])
    key = next(
        (part for part in reversed(list(loc)) if isinstance(part, str) and part in _keys(tree, loc)), ""
    )
    return node.place.problem(f"{_name(key)} {_say(item, node)}")


def _say(item: ErrorDetails, node: Node) -> str:
    """Say what is wrong with a value, as the rest of a sentence that began with its key."""
    if isinstance(node, Scalar) and node.value is None:
        return "is empty; write a value, or remove the key"
    if item["type"] == "wrong":
        return item["msg"]
    if item["type"] == "string_type":
        return _not_text(node)
    said = _PLAIN_WORDS.get(item["type"], item["msg"].replace("Input should be", "must be"))
    found = f", not {_shown(node)}" if item["type"] in ("enum", "literal_error", *_PLAIN_WORDS) else ""
    return f"{said}{found}"


def _not_text(node: Node) -> str:
    if not isinstance(node, Scalar):
        return f"must be text, not {_shown(node)}"
    written = quote(node.text)
    return f"must be text, but YAML reads {written[1:-1]} as {name_type(node.value)}; write {written}"


def _shown(node: Node) -> str:
    match node:
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=str() as text):
            return quote(text)
        case Scalar(text=text, value=value):
            return f"{quote(text)[1:-1]} ({name_type(value)})"
        case Items():
            return "a list"
        case _:
            return "a mapping"


def _name(key: str) -> str:
    return f"`{key}`" if key.isprintable() and "`" not in key else quote(key)


def _keys(tree: Entries, loc: Iterable[str | int]) -> set[str]:
    """Return the keys that stand on the way to ``loc``; other parts name branches of unions."""
    found: set[str] = set()
    passed: list[str | int] = []
    for part in loc:
        parent = locate(tree, passed)
        if isinstance(parent, Entries) and part in parent.values:
            found.add(str(part))
        passed.append(part)
    return found


def _key_place(tree: Entries, loc: tuple[str | int, ...]) -> Place:
    parent = locate(tree, loc[:-1])
    if isinstance(parent, Entries) and loc and loc[-1] in parent.keys:
        return parent.keys[str(loc[-1])]
    return parent.place
