"""Presets: ready-made metrics and their queries, chosen by one line under ``metrics``.

A preset is a YAML file in ``presets/`` with the keys ``source`` (its type and options, never a connection),
``metrics`` and perhaps ``watch`` (a pace that the backend allows), as a budget file writes them. It lies
beneath everything that a budget and its defaults say.
"""

from __future__ import annotations

from pathlib import Path

from rollback_budget.budget_file.yaml_reader import read_document
from rollback_budget.budget_file.yaml_tree import Entries, Items, Node, Place, Scalar
from rollback_budget.exceptions import Problem
from rollback_budget.model.mistake import nearest, quote

KEY = "preset"
FOLDER = Path(__file__).parent / "presets"
#: What ``replay`` reads instead of the preset's backend.
_ANY_METRIC = "recorded"


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def take_presets(tree: Entries) -> tuple[Entries, list[Entries], list[Problem]]:
    """Take the line ``preset:`` out of ``metrics``.

    Return the tree without it, the presets that it names (each to be laid beneath the tree, the last one on
    top), and what is wrong with the line.
    """
    metrics = tree.values.get("metrics")
    if not isinstance(metrics, Entries) or KEY not in metrics.values:
        return tree, [], []
    presets, problems = [], []
    for name in _names(metrics.values[KEY]):
        preset = _read(tree, name)
        if isinstance(preset, Problem):
            problems.append(preset)
        else:
            presets.append(preset)
    kept = {key: value for key, value in metrics.values.items() if key != KEY}
    own = Entries(metrics.place, kept, metrics.keys)
    return Entries(tree.place, {**tree.values, "metrics": own}, tree.keys), presets, problems


def _names(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Items) else (node,)


def _read(tree: Entries, node: Node) -> Entries | Problem:
    known = preset_names()
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return node.place.problem(f"`{KEY}` is the name of a preset, or a list of names: {', '.join(known)}")
    if node.value not in known:
        meant = nearest(node.value, known)
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
        return node.place.problem(f"there is no preset {quote(node.value)}; {hint}")
    read, _ = read_document(FOLDER / f"{node.value}.yaml")
    preset = _moved(read, node.place)
    assert isinstance(preset, Entries)
    return _beneath_source(preset, tree, node)


def _beneath_source(preset: Entries, tree: Entries, name: Scalar) -> Entries | Problem:
    """Leave the preset's source out where the budget has none, or reads a recorded series."""
    own, wanted = _type_of(tree), _type_of(preset)
    if own not in (None, wanted, _ANY_METRIC):
        return name.place.problem(
            f"the preset {quote(name.text)} is for `source: {{type: {wanted}}}`, here it is {own}"
        )
    if "source" in tree.values and own != _ANY_METRIC:
        return preset
    values = {key: value for key, value in preset.values.items() if key != "source"}
    return Entries(preset.place, values, preset.keys)


def _type_of(tree: Entries) -> object:
    source = tree.values.get("source")
    node = source.values.get("type") if isinstance(source, Entries) else None
    return node.value if isinstance(node, Scalar) else None


def _moved(node: Node, place: Place) -> Node:
    """Return ``node`` as if all of it stood where the preset is named: that line a person can change."""
    match node:
        case Scalar(value=value, text=text):
            return Scalar(place, value, text)
        case Items(items=items):
            return Items(place, tuple(_moved(item, place) for item in items))
        case Entries(values=values):
            moved = {key: _moved(value, place) for key, value in values.items()}
            return Entries(place, moved, dict.fromkeys(moved, place))
