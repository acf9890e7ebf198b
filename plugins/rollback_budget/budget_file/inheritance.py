"""A budget file and what it inherits, as one tree: ``extends``, or ``defaults.yaml`` beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from rollback_budget.budget_file.presets import take_presets
from rollback_budget.budget_file.yaml_reader import read_document
from rollback_budget.budget_file.yaml_tree import Entries, Node, Scalar, plain
from rollback_budget.exceptions import Problem, SpecError
from rollback_budget.model.mistake import quote

DEFAULTS = "defaults.yaml"


@dataclass
class Resolved:
    """The merged tree of a budget.

    ``complete`` is False when something it inherits could not be read; what is missing then says nothing.
    """

    tree: Entries
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True

    def data(self) -> object:
        """Return the tree without the places."""
        return plain(self.tree)


def resolve(path: Path) -> Resolved:
    """Read a budget and all it inherits from, and merge them. Raises SpecError for the budget's own file."""
    own, problems = read_document(path)
    trees = [own]
    resolved = Resolved(own, problems)
    seen = {path.resolve()}
    base = _base(path, own, resolved, first=True)
    while base is not None:
        if base.resolve() in seen:
            resolved.complete = False
            place = trees[-1].values["extends"].place
            problems.append(
                place.problem(f"extends {quote(str(base))}, which leads back here; break the circle")
            )
            break
        seen.add(base.resolve())
        try:
            tree, found = read_document(base, may_be_empty=True)
        except SpecError as error:
            resolved.complete = False
            problems.extend(_blame(error, trees[-1], base))
            break
        problems.extend(found)
        trees.append(tree)
        base = _base(base, tree, resolved, first=False)
    merged = _without_extends(reduce(lambda child, parent: _merge_roots(parent, child), trees))
    merged, presets, found = take_presets(merged)
    problems.extend(found)
    resolved.tree = reduce(lambda own, preset: _merge_roots(preset, own), reversed(presets), merged)
    return resolved


def _base(path: Path, tree: Entries, resolved: Resolved, *, first: bool) -> Path | None:
    """Return the file that ``tree`` builds on, if any."""
    extends = tree.values.get("extends")
    if extends is None:
        beside = path.parent / DEFAULTS
        return beside if first and path.name != DEFAULTS and beside.exists() else None
    if isinstance(extends, Scalar) and isinstance(extends.value, str) and extends.value:
        return path.parent / extends.value
    resolved.complete = False
    wrong = "`extends` must be the name of one file, relative to this one, such as `extends: shared.yaml`"
    resolved.problems.append(extends.place.problem(wrong))
    return None


def _blame(error: SpecError, child: Entries, base: Path) -> list[Problem]:
    """Point at the ``extends`` that names a file which cannot be opened; else at the file itself."""
    extends = child.values.get("extends")
    if extends is None or os.path.isfile(base):
        return list(error.problems)
    return [extends.place.problem(f"`extends` names {quote(str(base))}: {p.message}") for p in error.problems]


def _without_extends(tree: Entries) -> Entries:
    return Entries(tree.place, {key: v for key, v in tree.values.items() if key != "extends"}, tree.keys)


def _merge_roots(base: Entries, own: Entries) -> Entries:
    merged = merge(base, own)
    assert isinstance(merged, Entries)
    return merged


def merge(base: Node, own: Node, path: tuple[str, ...] = ()) -> Node:
    """Merge mappings deeply, the budget's own keys first; everything else is replaced by the budget's.

    An area is one decision, a request body and a ticket's field are data and a metric's query is one
    question: all are replaced as a whole, and so is a mapping of another ``type``, whose keys mean something
    else.
    """
    if not (isinstance(base, Entries) and isinstance(own, Entries)) or _is_one_piece(path):
        return own
    if None not in (types := (_type_of(base), _type_of(own))) and types[0] != types[1]:
        return own
    values = {
        key: merge(base.values[key], value, (*path, key)) if key in base.values else value
        for key, value in own.values.items()
    }
    return Entries(own.place, {**values, **_rest(base, own)}, {**base.keys, **own.keys})


def _rest(base: Entries, own: Entries) -> dict[str, Node]:
    return {key: value for key, value in base.values.items() if key not in own.values}


def _is_one_piece(path: tuple[str, ...]) -> bool:
    if path == ("target", "write", "body") or (len(path) == 2 and path[0] == "rollback_budget"):
        return True
    if len(path) == 3 and path[:2] == ("tickets", "fields"):
        return True
    return len(path) == 3 and (path[0], path[2]) == ("metrics", "query")


def _type_of(tree: Entries) -> object:
    node = tree.values.get("type")
    return node.value if isinstance(node, Scalar) else None
