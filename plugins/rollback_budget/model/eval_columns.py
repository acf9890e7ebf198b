"""How a table of evaluation results is read: the names of its columns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rollback_budget.model.section import OneOrMoreNames, Section


class Columns(Section):
    """Names of the columns of evaluation results; ``case_id``, ``release`` and a verdict must be there.

    Of this only ``pass_mark``, ``numbers`` and ``scorer`` count for results of Inspect AI and promptfoo.

    :param passed: holds true or false (1 or 0, pass or fail); empty is a case that crashed.
    :param pass_mark: the least score that passes; the verdict is then read from ``score``.
    :param score: the evaluator's number.
    :param slice: the part of traffic that a case stands for.
    :param input_sha256: hash of the input that was asked.
    :param numbers: further columns with numbers, such as a latency, to compare releases by.
    :param scorer: in an Inspect log with several scorers, the one that decides; without it all of them do.
    """

    case_id: str = "case_id"
    release: str = "release"
    passed: str = "passed"
    pass_mark: float | None = None
    score: str = "score"
    slice: str = "slice"
    input_sha256: str = "input_sha256"
    numbers: Annotated[tuple[str, ...], OneOrMoreNames] = Field(
        default=(), description="Further columns with numbers, to compare versions by."
    )
    scorer: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which a table says nothing."""
        verdict = self.passed if self.pass_mark is None else self.score
        return (self.case_id, self.release, verdict, *self.numbers)


#: The names where the budget gives no others.
AS_NAMED = Columns()
