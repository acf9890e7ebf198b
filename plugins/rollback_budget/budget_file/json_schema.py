"""The JSON schema of budget files, generated from their types."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rollback_budget.budget_file.budget_file import BudgetFile
from rollback_budget.model.duration import DURATION_PATTERN, write_duration

DIALECT = GenerateJsonSchema.schema_dialect
_PARAM = re.compile(r"^:param (\w+): (.*?)(?=^:|\Z)", re.MULTILINE | re.DOTALL)


class _FileSchema(GenerateJsonSchema):
    """Durations as a file writes them, in values and in defaults; keys described by the types' docstrings."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        text = inspect.cleandoc(schema["cls"].__doc__ or "")
        described["description"] = text.split("\n:param ")[0].rstrip()
        for key, says in _PARAM.findall(text):
            if key in described.get("properties", {}):
                described["properties"][key].setdefault("description", " ".join(says.split()))
        return described

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:  # noqa: ARG002
        return {"type": "string", "pattern": DURATION_PATTERN}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def encode_default(self, dft: Any) -> Any:
        return (
            _write_durations(dft.model_dump()) if hasattr(dft, "model_dump") else super().encode_default(dft)
        )

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), timedelta):
            return {**self.generate_inner(schema["schema"]), "default": write_duration(schema["default"])}
        return super().default_schema(schema)


def budget_schema() -> JsonSchemaValue:
    """Return the schema of a budget file and of the files it builds on.

    Nothing is required in it: any key may stand in another file. ``validate`` checks what they give together.
    """
    schema = BudgetFile.model_json_schema(schema_generator=_FileSchema, mode="validation")
    return {"$schema": DIALECT, **_without_required(schema)}


def _without_required(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_required(value)
            for key, value in schema.items()
            if not (key == "required" and isinstance(value, list))
        }
    return [_without_required(item) for item in schema] if isinstance(schema, list) else schema


def _write_durations(value: Any) -> Any:
    match value:
        case dict():
            return {key: _write_durations(child) for key, child in value.items()}
        case timedelta():
            return write_duration(value)
        case _:
            return value
