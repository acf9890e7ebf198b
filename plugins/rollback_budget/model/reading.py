"""From what a file says to frozen types: strict values, every mistake of all sections collected at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from rollback_budget.model.by_type import ByType
from rollback_budget.model.mistake import Loc, Mistake, WrongValueError, name_type
from rollback_budget.model.scalar import read_as
from rollback_budget.model.section import Placed, Section, Written

S = TypeVar("S", bound=Section)
#: From a value, its place and the mistakes so far to what the type takes, or to :data:`UNREADABLE`.
Reader = Callable[[Any, Loc, list[Mistake]], Any]

#: Stands for a value whose mistakes have been noted.
UNREADABLE: Final = object()


class _Field(NamedTuple):
    """How one field is read; without a reader its value is pydantic's affair."""

    reader: Reader | None
    may_be_empty: bool


def read(
    section: type[S], data: object, *, given: Mapping[str, Any] | None = None, build: type[S] | None = None
) -> tuple[S | None, list[Mistake]]:
    """Return the section that ``data`` means, and everything that is wrong with it.

    :param data: what ``yaml.safe_load`` gives. With any mistake there is no section.
    :param given: fields that ``data`` does not say.
    :param build: the type to build from the fields, where ``section`` only says how a file writes it.
    """
    found: list[Mistake] = []
    value = _read_section(section, data, (), found, given, build)
    return (value if isinstance(value, build or section) else None), found


def _read_section(
    section: type[Section],
    data: object,
    loc: Loc,
    found: list[Mistake],
    given: Mapping[str, Any] | None = None,
    build: type[Section] | None = None,
) -> Any:
    """Return the section at ``loc``, or :data:`UNREADABLE` with what is wrong added to ``found``."""
    if not isinstance(data, dict):
        found.append(
            Mistake(loc, f"must be a mapping (lines of `key: value`), not {name_type(data)}", "wrong")
        )
        return UNREADABLE
    before = len(found)
    for rule in (section.unknown, section.missing, section.mistakes):
        found.extend(Mistake((*loc, *said.loc), said.message, said.kind) for said in rule(data))
    plan = _plan(section)
    fields = dict(given or {})
    for name, value in section.arrange(data).items():
        at = (*loc, section.written_as.get(name, name))
        field = plan[name]
        if value == "" and not field.may_be_empty:
            found.append(Mistake(at, "must not be empty", "wrong"))
            continue
        read_value = value if field.reader is None else field.reader(value, at, found)
        if read_value is not UNREADABLE:
            fields[name] = read_value
    try:
        built = (build or section).model_validate(fields)
    except ValidationError as error:
        found.extend(_of_pydantic(section, error, loc))
        if len(found) == before:
            raise
        return UNREADABLE
    return built if len(found) == before else UNREADABLE


def _of_pydantic(section: type[Section], error: ValidationError, loc: Loc) -> list[Mistake]:
    """Return pydantic's errors as mistakes; what is missing was said, or could not be read."""
    return [
        Mistake(
            (*loc, *(section.written_as.get(str(part), part) for part in item["loc"][:1]), *item["loc"][1:]),
            item["msg"],
            item["type"],
        )
        for item in error.errors(include_url=False, include_context=False)
        if item["type"] != "missing"
    ]


@cache
def _plan(section: type[Section]) -> dict[str, _Field]:
    return {
        name: _Field(
            _reader(field.annotation, tuple(field.metadata)) or _scalar(field.annotation), field.default == ""
        )
        for name, field in section.model_fields.items()
    }


def _reader(annotation: Any, metadata: tuple[Any, ...] = ()) -> Reader | None:
    """Return how a type is read that is, holds or may be written like a section; None for any other."""
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        return _reader(annotation, (*more, *metadata))
    inner = next((_choice(item) for item in metadata if isinstance(item, ByType)), None) or _plain(annotation)
    for item in metadata:
        if isinstance(item, Written):
            inner = _written(item, inner or _scalar(annotation))
    return inner


def _plain(annotation: Any) -> Reader | None:
    """Return how a type without annotations is read."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is tuple:
        item = _reader(arguments[0])
        return None if item is None else _items(item)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return None if value is None else _values(value)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _section(annotation)
    return None


def _scalar(annotation: Any) -> Reader:
    def read_scalar(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        try:
            return read_as(annotation, value)
        except WrongValueError as error:
            found.append(Mistake(loc, str(error), "wrong"))
            return UNREADABLE

    return read_scalar


def _written(how: Written, inner: Reader) -> Reader:
    def read_written(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        try:
            said = how.read(value)
        except WrongValueError as error:
            found.append(Mistake(loc, str(error), "wrong"))
            return UNREADABLE
        return inner(said, loc, found)

    return read_written


def _section(section: type[Section]) -> Reader:
    def read_mapping(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        if isinstance(value, Placed):
            return _read_section(section, value.value, value.loc, found, value.given)
        return _read_section(section, value, loc, found)

    return read_mapping


def _choice(by_type: ByType) -> Reader:
    def read_chosen(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        section = by_type.choose(value)
        if isinstance(section, str):
            found.append(Mistake(loc, section, "rule"))
            return UNREADABLE
        return _read_section(section, value, loc, found)

    return read_chosen


def _union(members: tuple[Any, ...]) -> Reader | None:
    """Read nothing, a text, or the one member that is more than that."""
    reader = next((found for member in members if (found := _reader(member)) is not None), None)
    if reader is None:
        return None
    takes_none, takes_text = NoneType in members, str in members

    def read_member(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        if (value is None and takes_none) or (takes_text and isinstance(value, str)):
            return value
        return reader(value, loc, found)

    return read_member


def _items(item: Reader) -> Reader:
    def read_items(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        if not isinstance(value, list):
            return value
        items = [item(each, (*loc, at), found) for at, each in enumerate(value)]
        return UNREADABLE if any(each is UNREADABLE for each in items) else items

    return read_items


def _values(of_key: Reader) -> Reader:
    def read_values(value: Any, loc: Loc, found: list[Mistake]) -> Any:
        if not isinstance(value, dict):
            return value
        values = {key: of_key(each, (*loc, key), found) for key, each in value.items()}
        return UNREADABLE if any(each is UNREADABLE for each in values.values()) else values

    return read_values
