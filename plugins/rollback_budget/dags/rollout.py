"""A rollout as a DAG: one per budget file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TaskGroup

from rollback_budget.budget_file import find_budgets, load_budget, rollout_name
from rollback_budget.common.xcom import Tasks
from rollback_budget.dags.task_group import build_rollout
from rollback_budget.exceptions import SpecError
from rollback_budget.operators.broken_budget import BrokenBudgetOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rollback_budget.model.spec import RolloutSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
TAG = "rollback-budget"


class RolloutDag(DAG):
    """
    The rollout of one budget file, started by hand or by a deploy pipeline: one run is one rollout.

    :param budget: path of the budget file.
    :param dag_id: by default ``rollout_<file name>``.
    :param ship: see :class:`~rollback_budget.dags.task_group.RollbackBudgetGroup`; so for the others.

    Other arguments are those of an Airflow DAG.
    """

    def __init__(
        self,
        *,
        budget: str | Path,
        dag_id: str | None = None,
        ship: BaseOperator | TaskGroup | None = None,
        rollback: BaseOperator | TaskGroup | None = None,
        promote: BaseOperator | TaskGroup | None = None,
        **kwargs: Any,
    ) -> None:
        spec = load_budget(Path(budget))
        super().__init__(
            dag_id=dag_id or dag_id_of(budget), **{**_defaults(), "doc_md": _document(spec), **kwargs}
        )
        with self:
            build_rollout(spec, budget, Tasks(), ship=ship, rollback=rollback, promote=promote)


def dag_id_of(budget: str | Path) -> str:
    """Return the id of a budget's DAG, made of its file's name."""
    return f"rollout_{rollout_name(Path(budget))}"


def rollout_dags(folder: str | Path, only: str | None = None) -> Iterator[DAG]:
    """Make one DAG per budget file of ``folder``; a broken file breaks its own DAG and says why in it.

    :param only: the one DAG to make (a worker needs just its own); None for all.
    """
    for budget in find_budgets(Path(folder)):
        dag_id = dag_id_of(budget)
        if only is not None and only != dag_id:
            continue
        try:
            yield RolloutDag(budget=budget)
        except SpecError as error:
            yield _broken_dag(dag_id, error)


def _broken_dag(dag_id: str, error: SpecError) -> DAG:
    problems = "\n".join(f"    {problem}" for problem in error.problems)
    dag = DAG(
        dag_id=dag_id,
        **{
            **_defaults(),
            "tags": [TAG, "broken-budget"],
            "dag_display_name": f"{dag_id} (broken budget file)",
            "doc_md": f"This budget file cannot be used:\n\n{problems}\n",
        },
    )
    with dag:
        BrokenBudgetOperator(task_id="preflight", problems=str(error))
    return dag


def _defaults() -> dict[str, Any]:
    # One rollout of a budget at a time: two would move the same traffic.
    return {"schedule": None, "start_date": START, "catchup": False, "max_active_runs": 1, "tags": [TAG]}


def _document(spec: RolloutSpec) -> str:
    rules = "\n".join(
        f"    {budget.id}: {budget.threshold:+g} for {budget.max_duration}, tier {budget.tier.value.upper()}"
        for budget in spec.budgets
    )
    return f"Rolls out one release under its rollback budget, for {spec.window}.\n\n{rules}\n"
