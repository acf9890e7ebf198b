"""What every type of the spec is: immutable, and strict about unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and strict about unknown fields."""

    # Deferred: a process that only parses DAGs pays for the few types that it uses.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
