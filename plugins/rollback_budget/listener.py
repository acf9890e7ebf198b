"""What happens when a component of Airflow starts: it makes sure that our pool is there."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Create the pool of the rollouts' tasks before the first task is scheduled: none runs in a missing pool.

    Scheduler, triggerer and DAG processor do; a task, which cannot reach Airflow's database, does not. Never
    raises: a component starts without it, and the scheduler warns of a pool that is missing.
    """
    # A job does not know its type yet, so early does Airflow say that it starts.
    if type(component).__module__ != "airflow.jobs.job":
        return
    try:
        from airflow.utils.session import create_session

        from rollback_budget.common.config import pool
        from rollback_budget.common.pool import create_pool

        with create_session() as session:
            if create_pool(session):
                log.info("created the pool %s for the tasks of rollouts", pool())
    except Exception:
        log.exception("the pool for the tasks of rollouts could not be created; run: rollback-budget setup")
