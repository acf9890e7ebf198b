"""What can keep a team's own rollback waiting in Airflow's queues: said before the release gets traffic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow.configuration import conf
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator

from rollback_budget.common.config import pool
from rollback_budget.common.priority import PRIORITY
from rollback_budget.common.xcom import Tasks

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from airflow.sdk.definitions.mappedoperator import MappedOperator

#: As many tasks of one rollout may run at once beside its rollback: a stage, and what records and notifies.
AT_ONCE = 4
#: What Airflow takes when its configuration does not say.
_SLOTS, _PARALLELISM = 128, 32


def queue_warnings(dag: DAG | None, tasks: Tasks) -> list[str]:
    """Return one line for everything that can keep a team's own rollback operators from starting.

    Where the target is ours, the trigger requests the rollback and no task has to start: then there is none.

    :param dag: the DAG of this rollout's tasks; None when it is not known, then nothing is warned of.
    """
    verdict = None if dag is None else dag.task_dict.get(tasks.id("verdict"))
    if dag is None or verdict is None:
        return []
    theirs = list(_between(dag, verdict.task_id, tasks.id("rollback")))
    if not theirs:
        return []
    names = ", ".join(task.task_id for task in theirs)
    # What a DAG's `default_args` say of our own tasks wins, too.
    waited_for = [*_ours_before(dag, tasks), *theirs]
    found = [
        *(_pool_warning(task) for task in waited_for if task.pool != pool()),
        *(_priority_warning(task) for task in waited_for if task.priority_weight < PRIORITY),
    ]
    limit = dag.max_active_tasks
    others = AT_ONCE + sum(1 for task in dag.tasks if task not in theirs and not _is_of_a_rollout(task))
    if limit is not None and 0 < limit < others:
        found.append(
            f"{dag.dag_id} has max_active_tasks={limit}, and up to {others} tasks beside {names} may run at"
            f" once: when {limit} of them do, the rollback waits for the first to end. Raise"
            " max_active_tasks, or give the rollout a DAG of its own"
        )
    parallelism = conf.getint("core", "parallelism", fallback=_PARALLELISM)
    found.append(
        f"{names} put the baseline back as tasks, and [core] parallelism is {parallelism} here: when that"
        " many tasks of any DAG run, the rollback waits for the first to end. A `target:` that we can write"
        " is asked by the trigger, which waits for none"
    )
    return found


def _is_of_a_rollout(task: BaseOperator | MappedOperator) -> bool:
    """Whether it is one of ours; an empty one joins branches, and is never run."""
    return isinstance(task, EmptyOperator) or (
        isinstance(task, BaseOperator) and type(task).__module__.startswith("rollback_budget.")
    )


def _pool_warning(task: BaseOperator | MappedOperator) -> str:
    slots = ""
    if task.pool == "default_pool":
        most = conf.getint("core", "default_pool_task_slot_count", fallback=_SLOTS)
        slots = f", {most} slots unless that was changed,"
    return (
        f"{task.task_id} runs in the pool {task.pool}{slots} which it shares: when that is full, the"
        f" rollback waits for the first task in it to end. Write pool={pool()!r} for it"
    )


def _priority_warning(task: BaseOperator | MappedOperator) -> str:
    return (
        f"{task.task_id} has priority_weight={task.priority_weight}: tasks that wait with a higher one start"
        f" before it. Write priority_weight={PRIORITY}, weight_rule='absolute' for it"
    )


def _ours_before(dag: DAG, tasks: Tasks) -> Iterator[BaseOperator | MappedOperator]:
    """Yield our tasks that run between a watch and the rollback."""
    for task in _between(dag, tasks.in_round(1, "watch"), tasks.id("rollback")):
        if _is_of_a_rollout(task) and not isinstance(task, EmptyOperator):
            yield task


def _between(dag: DAG, first: str, last: str) -> Iterator[BaseOperator | MappedOperator]:
    """Yield the tasks on the ways from one task to another, without these two."""
    down = dag.get_task(first).get_flat_relative_ids(upstream=False)
    up = dag.get_task(last).get_flat_relative_ids(upstream=True)
    for task_id in sorted(down & up):
        yield dag.get_task(task_id)
