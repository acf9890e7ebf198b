"""What every type of the spec is: immutable, and strict about unknown fields."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Immutable, and strict about unknown fields."""

    # Deferred: a process that only parses DAGs pays for the few types that it uses.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def added_later(default: object, description: str | None = None, examples: list[Any] | None = None) -> Any:
    """Return a field that is not written while it has its default.

    Specs that were frozen before there was such a field keep their digests.
    """
    return Field(
        default=default,
        exclude_if=lambda value: bool(value == default),
        description=description,
        examples=examples,
    )
