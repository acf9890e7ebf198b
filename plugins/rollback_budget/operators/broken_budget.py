"""The one task of a budget file that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class BrokenBudgetOperator(BaseOperator):
    """
    Stands for a budget file that cannot be used, so that its DAG is seen and says why.

    :param problems: one line each, with its place in the file.
    """

    ui_color = "#f9d6d5"

    def __init__(self, *, problems: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Fail with every problem."""
        raise AirflowFailException(f"this budget cannot be used:\n{self.problems}")
