"""The section of a budget file that says where samples come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.json_sections import HttpJsonSection
from rollback_budget.budget_file.section import Section, mistake
from rollback_budget.budget_file.sql_sections import SqlSection
from rollback_budget.model.source import PrometheusSource, RecordedSource

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class PrometheusSection(Section, PrometheusSource):
    """Prometheus, or what speaks its HTTP API, behind an Airflow `http` connection."""

    positive: ClassVar[tuple[str, ...]] = ("scrape_interval", "timeout")
    conn_id: str = Field(examples=["prometheus"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield what cannot be a label."""
        yield from super().mistakes(data)
        version = data.get("version_label", cls.model_fields["version_label"].default)
        labels = data.get("labels") if isinstance(data.get("labels"), dict) else {}
        for place, label in (
            (("version_label",), version),
            (("slice_label",), data.get("slice_label")),
            *((("labels", name), name) for name in labels or {}),
        ):
            if isinstance(label, str) and not _LABEL.fullmatch(label):
                yield mistake(
                    place, f"`{place[0]}` names a label: letters, digits and underscores, as in Prometheus"
                )
        for name in (version, data.get("slice_label")):
            if isinstance(name, str) and labels and name in labels:
                yield mistake(
                    ("labels", name), f"{name} tells versions or slices apart; it cannot be fixed here", "key"
                )


class RecordedSection(Section, RecordedSource):
    """A file of recorded series."""

    path: str = Field(examples=["series.csv"])


def _source_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


SourceSection = Annotated[
    Annotated[SqlSection, Tag("sql")]
    | Annotated[PrometheusSection, Tag("prometheus")]
    | Annotated[HttpJsonSection, Tag("http_json")]
    | Annotated[RecordedSection, Tag("recorded")],
    Discriminator(
        _source_type,
        custom_error_type="rule",
        custom_error_message="`source` has a type: `type: sql`, or prometheus, http_json or recorded",
    ),
]
