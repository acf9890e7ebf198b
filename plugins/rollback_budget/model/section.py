"""What the sections of a budget file have in common: known keys, rules between keys, ways of writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rollback_budget.model.base import Frozen
from rollback_budget.model.mistake import Mistake, WrongValueError, mistake, nearest, quote
from rollback_budget.model.scalar import read_as


class Section(Frozen):
    """A frozen type that a budget file writes as a mapping.

    Its fields are the keys, its defaults hold where a key is left out. JSON and Python build it as any frozen
    type; :func:`rollback_budget.model.reading.read` builds it as a person writes it, and calls these methods.
    """

    positive: ClassVar[tuple[str, ...]] = ()
    """Names of durations that must be longer than zero."""

    filled_in: ClassVar[tuple[str, ...]] = ()
    """Fields without a default that a file may leave out: :meth:`arrange` or their place gives them."""

    written_as: ClassVar[Mapping[str, str]] = {}
    """The key under which a file writes a field, where that is not the field's name."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that a file may write here."""
        return list(cls.model_fields)

    @classmethod
    def required_keys(cls) -> list[str]:
        """Return the keys that a file must write here."""
        return [
            name
            for name, field in cls.model_fields.items()
            if field.is_required() and name not in cls.filled_in
        ]

    @classmethod
    def unknown(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a mistake for every key that means nothing here."""
        for key in data:
            if key not in cls.known_keys():
                meant = nearest(key, cls.known_keys())
                hint = f"did you mean `{meant}`?" if meant else f"known here: {', '.join(cls.known_keys())}"
                yield mistake((key,), f"unknown key {quote(key)}; {hint}", "key")

    @classmethod
    def missing(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a mistake for every required key that is not there."""
        for name in cls.required_keys():
            if name not in data:
                example = next(iter(cls.model_fields[name].examples or ()), "...")
                yield mistake((name,), f"`{name}` is missing; add `{name}: {example}`", "absent")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield what is wrong between keys, as far as the single values can be read."""
        for name in cls.positive:
            if cls.peek(data, name) == timedelta(0):
                yield mistake((name,), f"`{name}` must be longer than 0")

    @classmethod
    def arrange(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that the keys of the file stand for."""
        return {key: value for key, value in data.items() if key in cls.model_fields}

    @classmethod
    def peek(cls, data: Mapping[str, Any], name: str) -> Any:
        """Return a scalar field, its default when it is not there, None when it cannot be read."""
        field = cls.model_fields[name]
        if name not in data:
            return None if field.is_required() else field.default
        try:
            return read_as(field.annotation, data[name])
        except WrongValueError:
            return None


@dataclass(frozen=True)
class Placed:
    """A value that :meth:`Section.arrange` moved: where it stands, and the fields that its place gives."""

    value: object
    loc: tuple[str | int, ...]
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """How a file may write a value beside its type's own way; stands in ``Annotated``.

    :param read: from what the file says to what the type takes; raises WrongValueError.
    :param schema: from the JSON schema of the type to that of what a file may write.
    """

    read: Callable[[object], object]
    schema: Callable[[JsonSchemaValue], JsonSchemaValue]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe what is taken (``validation``) as a file writes it, and what comes out as it is."""
        schema = handler(core_schema)
        return self.schema(schema) if handler.mode == "validation" else schema


def or_text(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the schema of something that may be written as a text, too."""
    return {"anyOf": [{"type": "string"}, schema]}


def one_or_list(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the schema of a list that may be written as its only item, too."""
    return {"anyOf": [schema["items"], schema]}


def or_nothing(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Return the schema of something that may be left out, or empty."""
    return {"anyOf": [schema, {"type": "null"}], "default": None}


def as_it_is(value: object) -> object:
    """Leave a value to :meth:`Section.arrange`, and to pydantic."""
    return value


def listed(value: object) -> object:
    """Read one name, or a list of them."""
    return [value] if isinstance(value, str) else value


#: A field that always has a value, and that a file may leave out: the rest of the section says it.
MayBeLeftOut = Written(as_it_is, or_nothing)
#: Names, of which a file may write a single one without a list.
OneOrMoreNames = Written(listed, one_or_list)
