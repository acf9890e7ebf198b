"""Sections of other packages: a ``type`` that is not ours is read by what is registered under that name."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic_core import PydanticCustomError

from rollback_budget.model.base import Frozen
from rollback_budget.registry import Group, RegistryError, is_registered, load, own_names

S = TypeVar("S", bound=Frozen)

#: The tag of the one branch of a union that reads all types of other packages.
REGISTERED = "registered"


def tag_of(group: Group, kind: object) -> Any:
    """Return the tag of a section's ``type``: its own for one of ours and for what nobody registered."""
    return REGISTERED if kind not in own_names(group) and is_registered(group, kind) else kind


def settings_class(group: Group, kind: object, base: type[S]) -> type[S]:
    """Return the type of the settings that belong to what is registered as ``kind``.

    :raises PydanticCustomError: it cannot be loaded, or has no settings that are a subclass of ``base``.
    """
    try:
        found = load(group, str(kind))
    except RegistryError as error:
        raise PydanticCustomError("rule", "{said}", {"said": str(error)}) from error
    settings = getattr(found, "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, base)):
        said = f"what is registered as {kind!r} in {group} has no `settings` that are a {base.__name__}"
        raise PydanticCustomError("rule", "{said}", {"said": said})
    return settings


def read_settings(group: Group, value: object, base: type[S]) -> S:
    """Return the settings of a registered type, from its stored form or as they are."""
    if isinstance(value, base):
        return value
    kind = value.get("type") if isinstance(value, dict) else None
    return settings_class(group, kind, base).model_validate(value)


def schema_of(group: Group) -> dict[str, Any]:
    """Return the JSON schema of a section whose type is another package's."""
    return {
        "type": "object",
        "description": f"A type that another package registers in `{group}`, with keys of its own.",
        "properties": {"type": {"type": "string"}},
        # A section without a type is one of ours, too.
        "not": {"properties": {"type": {"enum": own_names(group)}}},
    }
