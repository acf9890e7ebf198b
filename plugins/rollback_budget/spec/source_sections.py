"""The section of a budget file that says where samples come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from rollback_budget.spec.section import Section
from rollback_budget.spec.source import RecordedSource, SqlSource


class SqlSection(Section, SqlSource):
    """Any common-sql connection."""

    conn_id: str = Field(examples=["request_log"])


class RecordedSection(Section, RecordedSource):
    """A file of recorded series."""

    path: str = Field(examples=["series.csv"])


def _source_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


SourceSection = Annotated[
    Annotated[SqlSection, Tag("sql")] | Annotated[RecordedSection, Tag("recorded")],
    Discriminator(
        _source_type,
        custom_error_type="rule",
        custom_error_message="`source` is a mapping with `type: sql` or `type: recorded`",
    ),
]
