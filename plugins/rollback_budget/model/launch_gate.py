"""What is asked of a release before it is shipped, as the spec says it."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from rollback_budget.model.base import Frozen
from rollback_budget.model.eval_columns import Columns

#: In the path of a file of results, stands for the version whose results it holds.
VERSION = "{version}"


class EvalResults(Frozen):
    """Where evaluations leave their results: files, or a table.

    :param path: of one file for both versions, or, with ``{version}`` in it, of a file per version.
    :param format: of the files; None tells by the suffix.
    :param conn_id: of the database that holds ``table``.
    :param timeout: for one statement.
    """

    path: str | None = None
    format: Literal["csv", "jsonl", "parquet", "inspect", "promptfoo"] | None = None
    conn_id: str | None = None
    table: str | None = None
    timeout: timedelta = timedelta(seconds=60)


class Measure(Frozen):
    """How a metric of production is measured in an evaluation.

    :param column: of the results; ``passed`` counts as 1 or 0.
    :param quantile: between 0 and 1; None takes the mean.
    """

    column: str
    quantile: float | None = None


class Delta(Frozen):
    """How much worse than the baseline a release may be in an evaluation.

    :param measure: its name under ``measures``, or that of a column.
    :param comparison: as in a budget, but for ``increase``.
    :param worse: ``higher`` or ``lower``.
    :param min_rows: rows of each version without which nothing is decided; None takes the gate's.
    :param severity: what being beyond it leads to: ``critical`` blocks, ``warning`` asks, ``info`` notes.
    """

    measure: str
    comparison: Literal["delta_pct", "delta_pp", "delta", "above", "below"]
    threshold: float
    worse: Literal["higher", "lower"]
    slice: str | None = None
    min_rows: int | None = None
    severity: Literal["critical", "warning", "info"] = "warning"


class LaunchGate(Frozen):
    """What is checked before a release gets traffic.

    :param deltas: beside the eval debts' own.
    :param min_rows: rows of each version that a delta needs, unless it says another number.
    :param ask_within: how long the incident commander has to answer; silence does not ship.
    """

    results: EvalResults
    columns: Columns = Columns()
    measures: dict[str, Measure] = Field(default_factory=dict)
    deltas: tuple[Delta, ...] = ()
    min_rows: int = 30
    ask_within: timedelta = timedelta(hours=1)

    def measure(self, name: str) -> Measure | None:
        """Return how ``name`` is measured; None when the results hold nothing for it."""
        if name in self.measures:
            return self.measures[name]
        if name == "task_success":
            return Measure(column="passed")
        return Measure(column=name) if name in ("passed", "score", *self.columns.numbers) else None
