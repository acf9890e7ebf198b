"""What happens when a component of Airflow starts: it makes sure that our pool is there."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)


@hookimpl
def on_starting(component: Any) -> None:
    """Create the pool of the rollouts' tasks before the first task is scheduled: none runs in a missing pool.

    Airflow calls this before the component knows what it is: scheduler, triggerer and DAG processor look
    alike, and all of them have the database. A process that runs a task does not, and is left alone.

    Never raises: the component starts without the pool, and says what there is to say.
    """
    if type(component).__name__ != "Job":
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
