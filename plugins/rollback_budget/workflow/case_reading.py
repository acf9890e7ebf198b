"""Reading failing requests through Airflow's connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rollback_budget.spec.case_source import SqlCases
from rollback_budget.spec.source import SqlSource

if TYPE_CHECKING:
    from rollback_budget.cases.question import Question
    from rollback_budget.cases.request import FailedRequest
    from rollback_budget.ledger.records import Rollout


def read_failing(rollout: Rollout, question: Question) -> list[FailedRequest]:
    """Return the failing requests that the rollout's source of cases has.

    :raises SourceError: it did not answer; CaseError: the budget file does not describe it well.
    """
    return asyncio.run(_failing(rollout, question))


async def _failing(rollout: Rollout, question: Question) -> list[FailedRequest]:
    # Reading cases is nothing that parsing a DAG should pay for.
    from rollback_budget.workflow.http_connection import close_shared_session

    source = rollout.spec.cases.source
    if source is None:
        return []
    if isinstance(source, SqlCases):
        from rollback_budget.cases.sql import SqlFailures
        from rollback_budget.workflow.connections import open_engine

        samples = rollout.spec.source
        log = samples.request_log if isinstance(samples, SqlSource) else None
        return await SqlFailures(source, log, await open_engine(source.conn_id)).failing(question)
    from rollback_budget.cases.http import open_http_cases
    from rollback_budget.workflow.http_connection import open_http_client

    try:
        return await open_http_cases(source, await open_http_client(source.conn_id)).failing(question)
    finally:
        await close_shared_session()
