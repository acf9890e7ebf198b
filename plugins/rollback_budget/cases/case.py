"""An eval case: one input with what is expected of the answer, and where it comes from."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, JsonValue

from rollback_budget.model.base import Frozen


class ExpectationKind(StrEnum):
    """How an answer is judged."""

    EXACT = "exact"
    CONTAINS = "contains"
    JSON_SCHEMA = "json_schema"
    RUBRIC = "rubric"


class Expectation(Frozen):
    """What a person approved as right.

    :param value: the exact answer, a text (or several) that it must contain, a JSON schema, or a rubric.
    """

    kind: ExpectationKind
    value: JsonValue
    approved_by: str
    approved_at: datetime


class Provenance(Frozen):
    """Where a case comes from.

    :param trace_id: of the request, in the tracing system or request log.
    :param content_sha256: of input and output, redacted and not yet cut: from a hash of what was taken out,
        a phone number could be found by brute force.
    """

    breach: str
    release: str
    trace_id: str | None = None
    asked_at: datetime | None = None
    content_sha256: str | None = None


class EvalCase(Frozen):
    """One line of a debt's case file.

    :param id: made of the normalised input, metric and slice, so that it is the same in every debt and year.
    :param input: a text, a list of chat messages, or any JSON; redacted. None in a stub.
    :param breached_output: what the breached release answered. Evidence, never the expectation.
    :param missing: in a stub, what to bring; None otherwise.
    """

    schema_version: Literal[1] = 1
    id: str
    debt: str
    metric: str
    slice: str | None = None
    input: JsonValue = None
    breached_output: JsonValue = None
    expectation: Expectation | None = None
    provenance: Provenance
    missing: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def is_approved(self) -> bool:
        """Whether a person has said what is expected."""
        return self.expectation is not None

    def document(self) -> dict[str, Any]:
        """Return the case in JSON's types, with all that people and services wrote as it is.

        Pydantic's own JSON would replace half characters (lone surrogates) in keys, and make one key of two.
        """
        written = self.model_dump(mode="json", exclude={"input", "breached_output", "metadata"})
        if self.expectation is not None:
            written["expectation"]["value"] = self.expectation.value
        free = {"input": self.input, "breached_output": self.breached_output, "metadata": dict(self.metadata)}
        return written | free
