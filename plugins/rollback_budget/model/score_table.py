"""A table of scores, one row a score, as the ``sql`` source reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rollback_budget.model.mistake import Mistake, mistake
from rollback_budget.model.section import OneOrMoreNames, Section
from rollback_budget.model.sql_table import Table, not_a_column


class Score(Section):
    """Which scores a metric is made of, and what of them: their mean, or the share of those that pass.

    :param score: the name of the score; by default that of the metric.
    :param passes_at: the metric is the share of scores of at least this.
    :param among: the metric is the share of scores whose label is one of these.
    """

    score: str | None = Field(default=None, examples=["helpfulness"])
    passes_at: float | None = Field(default=None, examples=[0.7])
    among: tuple[str, ...] = Field(default=(), examples=["[correct]"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield a threshold that is none, and two ways to pass."""
        yield from super().mistakes(data)
        passes_at = cls.peek(data, "passes_at")
        if passes_at is not None and not isfinite(passes_at):
            yield mistake(("passes_at",), "`passes_at` is a number, such as 0.7")
        if "passes_at" in data and "among" in data:
            yield mistake(("among",), "`among` and `passes_at` both say which scores pass; keep one", "key")

    @property
    def is_share(self) -> bool:
        """Whether the metric is the share of scores that pass."""
        return self.passes_at is not None or bool(self.among)


class Scores(Table):
    """One row a score: a judge's, a person's or a program's.

    :param table: its name; or ``query``.
    :param query: a SELECT that gives such rows, with the columns named here.
    :param time: when the request was that is scored.
    :param arrived: when the score came; metrics with ``bucket_by: arrival`` are grouped by it.
    :param time_type: how both times are stored; a ``timestamp`` without a time zone is taken for UTC.
    :param slice: the column that a budget's ``slice`` is compared with.
    :param name: the column with the score's name.
    :param score: the column with its value; NULL is a request that is not scored yet.
    :param score_type: how ``score`` is stored.
    :param label: the column with its category, for metrics with ``among``.
    :param judge: what scored it: the column with the judge's name, or several, such as model and prompt.
    :param where: further columns and the value that a row must have there.
    :param metrics: by metric, which scores it is made of.
    """

    columns: ClassVar[tuple[str, ...]] = (*("time", "arrived", "version", "slice", "name", "score", "label"),)

    table: str | None = Field(default=None, examples=["judge_scores"])
    query: str | None = None
    time: str = Field(default="requested_at", examples=["requested_at"])
    arrived: str | None = Field(default=None, examples=["scored_at"])
    time_type: Literal["epoch_s", "epoch_ms", "timestamp"] = "timestamp"
    version: str = "version"
    slice: str | None = None
    name: str = "name"
    score: str = "score"
    score_type: Literal["number", "boolean"] = "number"
    label: str | None = None
    judge: Annotated[tuple[str, ...], OneOrMoreNames] = Field(default=(), examples=["[model, prompt]"])
    where: Mapping[str, str] = Field(default_factory=dict, examples=["{environment: production}"])
    metrics: Mapping[str, Score] = Field(examples=["{helpful: {score: helpfulness, passes_at: 0.7}}"])

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Mistake]:
        """Yield rows from nowhere or from two places, and what cannot be a column."""
        yield from super().mistakes(data)
        if ("table" in data) == ("query" in data):
            loc, kind = (("query",), "key") if "query" in data else ((), "value")
            yield mistake(loc, "say where the scores are: either `table`, or `query` with a SELECT", kind)
        judge = data.get("judge")
        for at, name in enumerate(judge if isinstance(judge, list) else [judge]):
            yield from not_a_column(("judge", at) if isinstance(judge, list) else ("judge",), name)
        where = data.get("where")
        for name in where if isinstance(where, dict) else ():
            yield from not_a_column(("where", name), name)
        metrics = data.get("metrics")
        for metric, made_of in metrics.items() if isinstance(metrics, dict) else ():
            if isinstance(made_of, dict) and made_of.get("among") and "label" not in data:
                why = "`among` looks at the label of a score: name its column as `label`"
                yield mistake(("metrics", metric, "among"), why)

    def gives(self, metric: str) -> bool:
        """Whether ``metric`` can be read from this table."""
        return metric in self.metrics
