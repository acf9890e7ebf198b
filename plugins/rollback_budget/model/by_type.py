"""Sections that are distinguished by ``type``: ours, and those that a third party registered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from rollback_budget import registry
from rollback_budget.model.section import Section


@dataclass(frozen=True)
class ByType:
    """Which section a mapping is; stands in ``Annotated`` behind what all of them have in common.

    :param ours: sections with a literal ``type``; pydantic distinguishes them without running any Python.
    :param wanted: what to say of any other type.
    :param default: the type where none is written; None: one must be.
    :param group: where others are registered, as classes whose ``settings`` are a section.
    :param base: what the settings of those must be a subclass of.
    """

    ours: tuple[type[Section], ...]
    wanted: str
    default: str | None = None
    group: registry.Group | None = None
    base: type[Section] = Section

    @cached_property
    def _by_name(self) -> dict[str, type[Section]]:
        return {section.model_fields["type"].default: section for section in self.ours}

    def choose(self, value: object) -> type[Section] | str:
        """Return the section that ``value`` is written for, or say that there is none."""
        type_ = value.get("type", self.default) if isinstance(value, dict) else self.default
        try:
            section = self._by_name.get(type_) or self.registered(type_) if isinstance(type_, str) else None
        except registry.RegistryError as error:
            return str(error)
        return section or f"{self.wanted}{self._others()}"

    def registered(self, type_: str) -> type[Section] | None:
        """Return the settings of what a third party registered as ``type_``; None when none did.

        :raises RegistryError: it cannot be loaded, or has no settings that we can read.
        """
        if self.group is None or type_ not in registry.names(self.group):
            return None
        settings = getattr(registry.load(self.group, type_), "settings", None)
        if not (isinstance(settings, type) and issubclass(settings, self.base)):
            raise registry.RegistryError(
                f"what is registered as {type_!r} in {self.group} has no `settings` that are a subclass of "
                f"{self.base.__module__}.{self.base.__qualname__}"
            )
        return settings

    def _others(self) -> str:
        names = [] if self.group is None else registry.names(self.group)
        others = [name for name in names if name not in self._by_name]
        return f"; registered here: {', '.join(others)}" if others else ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Leave ours to pydantic, and ask the registry for any other type."""
        ours = handler.generate_schema(Annotated[Union[self.ours], Field(discriminator="type")])  # noqa: UP007
        if self.group is None:
            return ours

        def registered(value: Any) -> Any:
            if isinstance(value, self.base):
                return value
            type_ = value.get("type") if isinstance(value, dict) else None
            try:
                settings = self.registered(type_) if isinstance(type_, str) else None
            except registry.RegistryError as error:
                raise PydanticCustomError("not_registered", "{said}", {"said": str(error)}) from error
            if settings is None or type_ in self._by_name:
                raise PydanticCustomError("not_registered", "there is no such `type` of a third party")
            return settings.model_validate(value)

        # In this order, ours are read and written without running any Python.
        others = core_schema.no_info_plain_validator_function(registered)
        return core_schema.union_schema([ours, others], mode="left_to_right")

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say what a file may write: ours, whose ``type`` may be left out, and a type of another package."""
        schema = handler(core_schema)
        if handler.mode != "validation":
            return schema
        return {"oneOf": [*schema["oneOf"], *([] if self.group is None else [self._any_other()])]}

    def _any_other(self) -> JsonSchemaValue:
        return {
            "type": "object",
            "description": f"A type that another package registers in `{self.group}`, with keys of its own.",
            "properties": {"type": {"type": "string"}},
            # A section without a type is one of ours, too.
            "not": {"properties": {"type": {"enum": list(self._by_name)}}},
        }
