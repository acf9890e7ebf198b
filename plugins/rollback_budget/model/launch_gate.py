"""What is asked of a release before it is shipped, as the spec says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.budget import Comparison, ThresholdRule, split_threshold_key
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.mistake import Mistake, mistake, name_type, quote, wrong
from rollback_budget.model.section import MayBeLeftOut, Section, Written, one_or_list, or_text

#: Columns that hold a number in every table of results.
_NUMBERS = ("passed", "score")
#: In the path of a file of results, stands for the version whose results it holds.
VERSION = "{version}"


class EvalResults(Section):
    """Where evaluations leave their results: `path`, or `conn_id` and `table`.

    :param path: of one file for both versions, or, with ``{version}`` in it, of a file per version.
    :param format: of the files; None: by the suffix.
    :param conn_id: of the database that holds ``table``.
    :param timeout: for one statement.
    """

    positive: ClassVar[tuple[str, ...]] = ("timeout",)

    path: str | None = Field(default=None, examples=["/evals/{version}.jsonl"])
    format: Literal["csv", "jsonl", "parquet", "inspect", "promptfoo"] | None = None
    conn_id: str | None = None
    table: str | None = Field(default=None, examples=["eval_results"])
    timeout: timedelta = timedelta(seconds=60)

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
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


class Measure(Section):
    """How a metric of production is measured in an evaluation.

    :param column: of the results; ``passed`` counts as 1 or 0.
    :param quantile: between 0 and 1; None takes the mean.
    """

    column: str = Field(examples=["latency_s"])
    quantile: float | None = None

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a quantile that is none."""
        yield from super().mistakes(data)
        quantile = cls.peek(data, "quantile")
        if isinstance(quantile, float) and not 0 < quantile < 1:
            yield mistake(("quantile",), "`quantile` lies between 0 and 1, such as 0.95")


def _as_measure(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


#: A measure, or the name of its column.
_ColumnOrMeasure = Annotated[Measure, Written(_as_measure, or_text)]


class Delta(ThresholdRule):
    """How much worse than the baseline a release may be, such as `task_success_delta_pp: -2`.

    :param measure: its name under ``measures``, or that of a column.
    :param comparison: as in a budget, but for ``increase``.
    :param worse: ``higher`` or ``lower``.
    :param min_rows: rows of each version without which nothing is decided; None takes the gate's.
    :param severity: what being beyond it leads to: ``critical`` blocks, ``warning`` asks, ``info`` notes.
    """

    of_metric: ClassVar[str] = "measure"

    measure: str
    comparison: Literal["delta_pct", "delta_pp", "delta", "above", "below"]
    threshold: float
    worse: Annotated[Literal["higher", "lower"], MayBeLeftOut] = Field(
        description="Which direction is worse; the sign says it, too."
    )
    slice: str | None = Field(default=None, description="A part of the traffic that is measured on its own.")
    min_rows: int | None = Field(
        default=None, ge=1, description="Rows of each version; the gate's by default."
    )
    severity: Literal["critical", "warning", "info"] = Field(
        default="warning", description="critical blocks, warning asks the incident commander, info notes."
    )

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the options; threshold keys come on top."""
        return ["slice", "worse", "min_rows", "severity"]

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a comparison that an evaluation cannot make."""
        yield from super().mistakes(data)
        for key in cls.threshold_keys(data):
            if (split_threshold_key(key) or ("", None))[1] is Comparison.INCREASE:
                why = "counts events of traffic, which an evaluation has none of: use `_delta_pp` or `_above`"
                yield mistake((key,), f"`{key}` {why}", "key")


def _as_deltas(value: object) -> object:
    """Read one delta, or a list of them."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise wrong(f"must be a list of deltas (`- task_success_delta_pp: -2`), not {name_type(value)}")


class LaunchGate(Section):
    """What is checked before a release gets traffic: eval cases of past breaches, and deltas.

    :param deltas: beside the eval debts' own.
    :param min_rows: rows of each version that a delta needs, unless it says another number.
    """

    positive: ClassVar[tuple[str, ...]] = ("ask_within",)

    results: EvalResults = Field(examples=["{path: /evals/{version}.jsonl}"])
    columns: Columns = Columns()
    measures: dict[str, _ColumnOrMeasure] = Field(
        default_factory=dict, description="How each metric is measured in an evaluation."
    )
    deltas: Annotated[tuple[Delta, ...], Written(_as_deltas, one_or_list)] = Field(
        default=(), description="How much worse than the baseline the release may be."
    )
    min_rows: int = Field(default=30, ge=1, description="Rows of each version without which a delta blocks.")
    ask_within: timedelta = Field(
        default=timedelta(hours=1),
        description="How long the incident commander has to answer; silence does not ship.",
    )

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
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
            for key in Delta.threshold_keys(delta) if isinstance(delta, dict) else ():
                measure = (split_threshold_key(key) or ("", None))[0]
                if measure not in {*known, *(measures or {}), "task_success"}:
                    why = f"nothing measures {quote(measure)}: add it to `measures`"
                    yield mistake(("deltas", at, key), why, "key")

    def measure(self, name: str) -> Measure | None:
        """Return how ``name`` is measured; None when the results hold nothing for it."""
        if name in self.measures:
            return self.measures[name]
        if name == "task_success":
            return Measure(column="passed")
        return Measure(column=name) if name in (*_NUMBERS, *self.columns.numbers) else None
