"""A document as a tree in which every value knows its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rollback_budget.exceptions import Problem


class Place(NamedTuple):
    """Where something stands; line and column count from 1."""

    file: str
    line: int
    column: int

    def problem(self, message: str) -> Problem:
        """Return the problem that ``message`` is wrong here."""
        return Problem(self.file, self.line, self.column, message)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; ``text`` is how the file writes it."""

    place: Place
    value: object
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping; ``keys`` says where each key stands."""

    place: Place
    values: dict[str, Node]
    keys: dict[str, Place]


Node = Scalar | Items | Entries


def plain(node: Node) -> object:
    """Return the tree as the dicts, lists and values that ``yaml.safe_load`` would give."""
    match node:
        case Scalar(value=value):
            return value
        case Items(items=items):
            return [plain(item) for item in items]
        case Entries(values=values):
            return {key: plain(value) for key, value in values.items()}


def locate(root: Node, loc: Sequence[str | int]) -> Node:
    """Follow a path of keys and positions as far as the tree has it.

    Parts that the tree does not have (the name of a union's branch, a list that stands for one
    mapping) are passed over, so the answer is always the nearest place that a person can open.
    """
    node = root
    for part in loc:
        match node:
            case Entries(values=values) if part in values:
                node = values[str(part)]
            case Items(items=items) if isinstance(part, int) and part < len(items):
                node = items[part]
    return node
