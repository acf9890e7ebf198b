"""From mistakes in what a file says to problems at the places of the file."""

from __future__ import annotations

from collections.abc import Iterable

from rollback_budget.budget_file.yaml_tree import Entries, Items, Node, Place, Scalar, locate
from rollback_budget.exceptions import Problem
from rollback_budget.model.mistake import Mistake, name_type, quote

_SENTENCES = {"rule", "key", "absent"}
_PLAIN_WORDS = {
    "dict_type": "must be a mapping (lines of `key: value`)",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}


def translate(mistakes: Iterable[Mistake], tree: Entries, *, complete: bool) -> list[Problem]:
    """Return one problem for each mistake.

    :param complete: False leaves out what is missing, because an inherited file could not be read.
    """
    return [_problem(one, tree) for one in mistakes if complete or one.kind != "absent"]


def _problem(one: Mistake, tree: Entries) -> Problem:
    loc = one.loc
    node = locate(tree, loc)
    if one.kind in _SENTENCES:
        place = _key_place(tree, loc) if one.kind == "key" else node.place
        return place.problem(one.message)
    key = next(
        (part for part in reversed(list(loc)) if isinstance(part, str) and part in _keys(tree, loc)), ""
    )
    return node.place.problem(f"{_name(key)} {_say(one, node)}")


def _say(one: Mistake, node: Node) -> str:
    """Say what is wrong with a value, as the rest of a sentence that began with its key."""
    if isinstance(node, Scalar) and node.value is None:
        return "is empty; write a value, or remove the key"
    if one.kind == "wrong":
        return one.message
    if one.kind == "string_type":
        return _not_text(node)
    said = _PLAIN_WORDS.get(one.kind, one.message.replace("Input should be", "must be"))
    found = f", not {_shown(node)}" if one.kind in ("enum", "literal_error", *_PLAIN_WORDS) else ""
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
