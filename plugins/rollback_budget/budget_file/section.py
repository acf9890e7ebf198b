"""What the sections of a budget file have in common: strict values, known keys, all mistakes at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticUndefined

from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.base import Frozen
from rollback_budget.model.duration import LONGEST, parse_duration, write_duration


def wrong(message: str) -> PydanticCustomError:
    """Return the error that a value is wrong; ``message`` continues a sentence that begins with its key."""
    return PydanticCustomError("wrong", message)


def mistake(loc: tuple[str | int, ...], message: str, kind: str = "rule") -> InitErrorDetails:
    """Return the error that something at ``loc`` is wrong; ``message`` is a whole sentence."""
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=loc, input=None)


def nearest(word: str, known: list[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that was probably meant; what is far too long for a word was none of them."""
    if len(word) > 100:
        return None
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), None)


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
    """Accept a duration with its unit."""
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


class Section(Frozen):
    """A mapping of a budget file.

    Mixed in before a type of the frozen spec it takes over that type's fields and defaults, and reads
    them as a person writes them. Every mistake is collected, with its place, before any is raised.
    """

    positive: ClassVar[tuple[str, ...]] = ()
    """Names of durations that must be longer than zero."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that a file may write here."""
        return list(cls.model_fields)

    @classmethod
    def unknown(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a mistake for every key that means nothing here."""
        for key in data:
            if key not in cls.known_keys():
                meant = nearest(key, cls.known_keys())
                hint = f"did you mean `{meant}`?" if meant else f"known here: {', '.join(cls.known_keys())}"
                yield mistake((key,), f"unknown key {quote(key)}; {hint}", "key")

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
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
            return None if field.default is PydanticUndefined else field.default
        try:
            return read_as(field.annotation, data[name])
        except PydanticCustomError:
            return None

    @field_validator("*", mode="before")
    @classmethod
    def read_scalar(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would convert silently: booleans as numbers, numbers as durations."""
        field = cls.model_fields[str(info.field_name)]
        if value == "" and field.default != "":
            raise wrong("must not be empty")
        return read_as(field.annotation, value)

    @model_validator(mode="wrap")
    @classmethod
    def collect(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate, and raise pydantic's errors and our own in one go."""
        if isinstance(data, cls):
            return data
        if not isinstance(data, dict):
            raise wrong(f"must be a mapping (lines of `key: value`), not {name_type(data)}")
        errors = [*cls.unknown(data), *cls.missing(data), *cls.mistakes(data)]
        section = None
        try:
            section = handler(cls.arrange(data))
        except ValidationError as error:
            errors += [
                mistake(item["loc"], item["msg"], item["type"])
                for item in error.errors(include_url=False)
                if item["type"] != "missing"
            ]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        assert section is not None
        return section

    @classmethod
    def missing(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a mistake for every required key that is not there."""
        for name, field in cls.model_fields.items():
            if field.is_required() and name in cls.known_keys() and name not in data:
                example = next(iter(field.examples or ()), "...")
                yield mistake((name,), f"`{name}` is missing; add `{name}: {example}`", "absent")
