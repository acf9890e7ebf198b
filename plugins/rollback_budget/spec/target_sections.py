"""The section of a budget file that says who serves, and how to change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field
from pydantic_core import InitErrorDetails

from rollback_budget.spec.section import Section, mistake
from rollback_budget.spec.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.spec.tree import name_type


class HttpReadSection(Section, HttpRead):
    """How to ask who serves."""

    path: str = Field(examples=["/control/traffic"])


class HttpWriteSection(Section, HttpWrite):
    """How to set who serves."""

    path: str = Field(examples=["/control/traffic"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what JSON cannot carry."""
        yield from super().mistakes(data)
        yield from _not_json(data.get("body"), ("body",))


class HttpTargetSection(Section, HttpTarget):
    """A router, gateway or deploy controller behind an Airflow ``http`` connection."""

    positive: ClassVar[tuple[str, ...]] = ("deadline", "request_timeout")
    conn_id: str = Field(examples=["traffic_router"])
    read: HttpReadSection = Field(examples=["{path: /control/traffic}"])
    write: HttpWriteSection | None = Field(
        default=None,
        examples=["{path: /control/traffic, body: {...}}"],
        description="How to set who serves; left out where a team's own operators move all traffic.",
    )


def _not_json(value: object, loc: tuple[str | int, ...]) -> Iterator[InitErrorDetails]:
    match value:
        case dict():
            for key, child in value.items():
                yield from _not_json(child, (*loc, key))
        case list():
            for at, child in enumerate(value):
                yield from _not_json(child, (*loc, at))
        case None | str() | int():
            return
        case float() if value - value == 0:
            return
        case _:
            yield mistake(loc, f"JSON has no {name_type(value).removeprefix('a ')} {value}; put it in quotes")
