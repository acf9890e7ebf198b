"""The section of a budget file that says what is checked before a release is shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from rollback_budget.budget_file.budget_section import ThresholdSection, split_threshold_key
from rollback_budget.budget_file.section import Section, mistake, wrong
from rollback_budget.budget_file.yaml_tree import name_type, quote
from rollback_budget.model.budget import Comparison
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.launch_gate import VERSION, EvalResults, LaunchGate, Measure

#: Columns that hold a number in every table of results.
_NUMBERS = ("passed", "score")


class ResultsSection(Section, EvalResults):
    """Where evaluations leave their results: `path`, or `conn_id` and `table`."""

    positive: ClassVar[tuple[str, ...]] = ("timeout",)
    path: str | None = Field(default=None, examples=["/evals/{version}.jsonl"])
    table: str | None = Field(default=None, examples=["eval_results"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield no place, half a place, or two."""
        yield from super().mistakes(data)
        of_table = [key for key in ("conn_id", "table") if key in data]
        if "path" in data and of_table:
            yield mistake(
                (of_table[0],), f"`{of_table[0]}` and `path` both say where to read; keep one", "key"
            )
        elif "path" not in data and len(of_table) < 2:
            missing = "table" if of_table == ["conn_id"] else "conn_id" if of_table else "path"
            yield mistake(
                (), f"`{missing}` is missing: name `path: /evals/{VERSION}.jsonl`, or `conn_id` and `table`"
            )
        if "path" not in data and "format" in data:
            yield mistake(("format",), "`format` is that of a file; a table has none", "key")


class ColumnsSection(Section, Columns):
    """Names of the columns of the results, where they differ from the defaults."""

    numbers: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    ] = Field(default=(), description="Further columns with numbers, to compare versions by.")


class MeasureSection(Section, Measure):
    """A column of the results, or `{column: ..., quantile: 0.95}`."""

    column: str = Field(examples=["latency_s"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a quantile that is none."""
        yield from super().mistakes(data)
        quantile = cls.peek(data, "quantile")
        if isinstance(quantile, float) and not 0 < quantile < 1:
            yield mistake(("quantile",), "`quantile` lies between 0 and 1, such as 0.95")


_Measure = Annotated[
    MeasureSection,
    BeforeValidator(
        lambda value: {"column": value} if isinstance(value, str) else value,
        json_schema_input_type=str | MeasureSection,
    ),
]


class DeltaSection(ThresholdSection):
    """How much worse than the baseline a release may be, such as `task_success_delta_pp: -2`."""

    min_rows: int | None = Field(
        default=None, ge=1, description="Rows of each version; the gate's by default."
    )
    severity: Literal["critical", "warning", "info"] = Field(
        default="warning", description="critical blocks, warning asks the incident commander, info notes."
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a comparison that an evaluation cannot make."""
        yield from super().mistakes(data)
        for key in cls.threshold_keys(data):
            if (split_threshold_key(key) or ("", None))[1] is Comparison.INCREASE:
                why = "counts events of traffic, which an evaluation has none of: use `_delta_pp` or `_above`"
                yield mistake((key,), f"`{key}` {why}", "key")

    def freeze(self) -> dict[str, Any]:
        """Return the fields of the frozen delta."""
        return {
            "measure": self.metric,
            "comparison": self.comparison.value,
            "threshold": self.threshold,
            "worse": self.direction.value,
            "slice": self.slice,
            "min_rows": self.min_rows,
            "severity": self.severity,
        }


def _as_deltas(value: object) -> object:
    """Read one delta, or a list of them."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise wrong(f"must be a list of deltas (`- task_success_delta_pp: -2`), not {name_type(value)}")


class LaunchGateSection(Section):
    """What is checked before a release gets traffic: eval cases of past breaches, and deltas."""

    positive: ClassVar[tuple[str, ...]] = ("ask_within",)

    results: ResultsSection = Field(examples=["{path: /evals/{version}.jsonl}"])
    columns: ColumnsSection = ColumnsSection()
    measures: dict[str, _Measure] = Field(
        default_factory=dict, description="How each metric is measured in an evaluation."
    )
    deltas: Annotated[
        tuple[DeltaSection, ...],
        BeforeValidator(_as_deltas, json_schema_input_type=DeltaSection | list[DeltaSection]),
    ] = Field(default=(), description="How much worse than the baseline the release may be.")
    min_rows: int = Field(default=30, ge=1, description="Rows of each version without which a delta blocks.")
    ask_within: timedelta = Field(
        default=LaunchGate.model_fields["ask_within"].default,
        description="How long the incident commander has to answer; silence does not ship.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a measure of a column that the results are not said to hold."""
        yield from super().mistakes(data)
        columns = data.get("columns")
        numbers = columns.get("numbers", []) if isinstance(columns, dict) else []
        known = {*_NUMBERS, *([numbers] if isinstance(numbers, str) else numbers or [])}
        measures = data.get("measures") if isinstance(data.get("measures"), dict) else {}
        for name, measure in (measures or {}).items():
            column = measure.get("column") if isinstance(measure, dict) else measure
            if isinstance(column, str) and column not in known:
                why = f"the column {quote(column)} is not read: add it to `columns.numbers`"
                yield mistake(("measures", name), why)
        deltas = data.get("deltas", [])
        for at, delta in enumerate(deltas if isinstance(deltas, list) else [deltas]):
            for key in DeltaSection.threshold_keys(delta) if isinstance(delta, dict) else ():
                measure = (split_threshold_key(key) or ("", None))[0]
                if measure not in {*known, *(measures or {}), "task_success"}:
                    why = f"nothing measures {quote(measure)}: add it to `measures`"
                    yield mistake(("deltas", at, key), why, "key")

    def freeze(self) -> dict[str, Any]:
        """Return the fields of the frozen gate."""
        data = self.model_dump(exclude={"deltas"})
        return {**data, "deltas": [delta.freeze() for delta in self.deltas]}
