"""One YAML file as a tree in which every value knows its place.

``yaml.safe_load`` semantics, minus what surprises people: duplicate keys, merge keys, keys that are
not text, numbers in disguise (``1:30`` is 90, ``010`` is 8) and aliases that multiply are problems.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rollback_budget.budget_file.yaml_tree import Entries, Items, Node, Place, Scalar
from rollback_budget.exceptions import Problem, SpecError
from rollback_budget.model.mistake import name_type, quote

MAX_BYTES = 1024 * 1024
MAX_VALUES = 10_000
MAX_DEPTH = 50

# libyaml reads ten times as fast, and an Airflow that parses many budgets feels it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp")}
_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def read_document(path: Path, *, may_be_empty: bool = False) -> tuple[Entries, list[Problem]]:
    """Read one file into a tree, with every problem that does not stop the reading.

    :param may_be_empty: an empty file is an empty mapping (a shared fragment), not a problem.
    :raises SpecError: the file cannot be read as one YAML mapping.
    """
    name = str(path)
    root, problems = _parse(name, _read_bytes(path))
    start = Place(name, 1, 1)
    if root is None:
        if may_be_empty:
            return Entries(start, {}, {}), []
        raise SpecError([start.problem("the file is empty; a budget begins with `release: <name>`")])
    if not isinstance(root, Entries):
        found = "a list" if isinstance(root, Items) else f"only {quote(root.text)}"
        raise SpecError([root.place.problem(f"a budget is a mapping (`release: <name>`), this is {found}")])
    return root, list(problems)


# By content: a folder of budgets shares one file of defaults, which is then read once a parse.
@lru_cache(maxsize=8)
def _parse(name: str, content: bytes) -> tuple[Node | None, tuple[Problem, ...]]:
    reader = _TreeReader(name)
    root = reader.read(_decode(name, content))
    return root, tuple(reader.problems)


def _read_bytes(path: Path) -> bytes:
    start = Place(str(path), 1, 1)
    try:
        if not path.is_file():
            missing = (
                "there is no such file; check the path"
                if not path.exists()
                else "this is no file; name a budget file"
            )
            raise SpecError([start.problem(missing)])
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError([start.problem(f"cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_BYTES:
        raise SpecError([start.problem("larger than 1 MiB; a budget is a page of text, not a data file")])
    return content


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        wrong = f"byte {error.start} (0x{content[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        raise SpecError([Problem(name, line, column, wrong)]) from error


class _TooMuchError(Exception):
    """More values or levels than any budget has: reading on would only cost time."""


class _TreeReader:
    """Turns the events of one file into a tree and collects problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.count = 0
        self.depth = 0
        self.anchors: dict[str, tuple[Node, int]] = {}

    def read(self, text: str) -> Node | None:
        """Return the tree, None for a file without content. Raises SpecError."""
        if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
            before = text[: unprintable.start()]
            place = Place(self.name, before.count("\n") + 1, len(before) - before.rfind("\n"))
            wrong = f"the character U+{ord(unprintable[0]):04X} is not allowed in YAML; remove it"
            raise SpecError([place.problem(wrong)])
        self.loader = _SafeLoader(text)
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            raise SpecError([*self.problems, self._syntax_problem(error)]) from error
        except _TooMuchError as error:
            raise SpecError([*self.problems, *error.args]) from error
        finally:
            self.loader.dispose()

    def _document(self) -> Node | None:
        self.loader.get_event()
        if self.loader.check_event(yaml.StreamEndEvent):
            return None
        self.loader.get_event()
        root = self._node()
        self.loader.get_event()
        if not self.loader.check_event(yaml.StreamEndEvent):
            place = self._place(self.loader.peek_event().start_mark)
            self.problems.append(place.problem("a second document begins here; one file holds one budget"))
        return root

    def _syntax_problem(self, error: yaml.MarkedYAMLError) -> Problem:
        mark = error.problem_mark or error.context_mark
        place = Place(self.name, 1, 1) if mark is None else self._place(mark)
        said = " ".join(part for part in (error.context, error.problem) if part)
        hint = "; indent with spaces, never tabs" if "\\t" in said or "start any token" in said else ""
        return place.problem(f"not valid YAML: {said}{hint}")

    def _place(self, mark: yaml.Mark) -> Place:
        return Place(self.name, mark.line + 1, mark.column + 1)

    def _node(self) -> Node:
        event = self.loader.get_event()
        place = self._place(event.start_mark)
        self._grow(1, place)
        match event:
            case yaml.AliasEvent():
                return self._alias(str(event.anchor), place)
            case yaml.ScalarEvent():
                node: Node = self._scalar(event, place)
                size = 1
            case _:
                before = self.count
                self.depth += 1
                node = self._collection(event, place)
                self.depth -= 1
                size = self.count - before + 1
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, size)
        return node

    def _grow(self, by: int, place: Place) -> None:
        self.count += by
        if self.count > MAX_VALUES or self.depth > MAX_DEPTH:
            limit = f"{MAX_VALUES} values" if self.count > MAX_VALUES else f"{MAX_DEPTH} levels"
            hint = "no budget needs that many; are there aliases that multiply?"
            raise _TooMuchError(place.problem(f"more than {limit}; {hint}"))

    def _alias(self, anchor: str, place: Place) -> Node:
        # An anchor counts from its end on, so that one inside itself is unknown, too.
        if anchor not in self.anchors:
            raise _TooMuchError(
                place.problem(f"the alias *{anchor} has no anchor &{anchor} that ends before it")
            )
        node, size = self.anchors[anchor]
        self._grow(size, place)
        return node

    def _collection(self, event: yaml.CollectionStartEvent, place: Place) -> Node:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            self.problems.append(place.problem(f"the tag {quote(event.tag)} is not allowed; remove it"))
        if mapping:
            return self._entries(place)
        items = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node())
        self.loader.get_event()
        return Items(place, tuple(items))

    def _entries(self, place: Place) -> Entries:
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            merges = self.loader.check_event(yaml.ScalarEvent) and self._is_merge(self.loader.peek_event())
            key_node, value = self._node(), self._node()
            key = None if merges else self._key(key_node)
            if merges:
                wrong = "merge keys are not supported; share values with `extends`"
                self.problems.append(key_node.place.problem(wrong))
            if key is None:
                continue
            if key in values:
                first = f"the key {quote(key)} stands twice, first in line {keys[key].line}"
                wrong = f"{first}; YAML would drop one silently: remove one, or make a list of both"
                self.problems.append(key_node.place.problem(wrong))
                continue
            values[key] = value
            keys[key] = key_node.place
        self.loader.get_event()
        return Entries(place, values, keys)

    def _is_merge(self, event: yaml.ScalarEvent) -> bool:
        return bool(event.value == "<<" and event.implicit[0])

    def _key(self, node: Node) -> str | None:
        if not isinstance(node, Scalar):
            self.problems.append(node.place.problem("a key must be text, not a list or a mapping"))
            return None
        if isinstance(node.value, str):
            return node.value
        written = quote(node.text)
        read_as = name_type(node.value)
        wrong = f"YAML reads the key {written[1:-1]} as {read_as}; write {written}"
        self.problems.append(node.place.problem(wrong))
        return None

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Scalar:
        text: str = event.value
        tag = event.tag
        if tag in (None, "!"):
            tag = self.loader.resolve(yaml.ScalarNode, text, event.implicit)
        if tag == _TAG + "merge":
            return Scalar(place, text, text)
        if tag not in _SCALAR_TAGS:
            self.problems.append(
                place.problem(f"{quote(text)} has a special meaning in YAML; put it in quotes")
            )
            return Scalar(place, text, text)
        try:
            value = self.loader.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, AttributeError, OverflowError, yaml.YAMLError):
            self.problems.append(
                place.problem(f"{quote(text)} cannot be read; put it in quotes if it is text")
            )
            return Scalar(place, text, text)
        if isinstance(value, str) and _UNSTORABLE.search(value):
            self.problems.append(place.problem("text must not contain NUL or half a surrogate pair"))
            value = _UNSTORABLE.sub("", value)
        if _is_disguised(value, text):
            written = quote(text)
            read_as = (
                f"YAML reads {written[1:-1]} as the number {value}; write that, or {written} if it is text"
            )
            self.problems.append(place.problem(f"{read_as} (a duration is written 1h30m)"))
        return Scalar(place, value, text)


def _is_disguised(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return _PLAIN_INTEGER.fullmatch(text) is None
    return isinstance(value, float) and ":" in text
