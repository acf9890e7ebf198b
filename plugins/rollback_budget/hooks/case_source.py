"""Reading failing requests through Airflow's connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rollback_budget.model.case_source import SqlCases
from rollback_budget.model.source import SqlSource

if TYPE_CHECKING:
    from rollback_budget.cases.failed_request import FailedRequest
    from rollback_budget.cases.query import FailureQuery
    from rollback_budget.ledger.views import Rollout


def read_failing(rollout: Rollout, question: FailureQuery) -> list[FailedRequest]:
    """Return the failing requests that the rollout's source of cases has.

    :raises SourceError: it did not answer; CaseError: the budget file does not describe it well.
    """
    return asyncio.run(_failing(rollout, question))


async def _failing(rollout: Rollout, question: FailureQuery) -> list[FailedRequest]:
    # Reading cases is nothing that parsing a DAG should pay for.
    from rollback_budget.hooks.http import close_shared_session

    source = rollout.spec.cases.source
    if source is None:
        return []
    if isinstance(source, SqlCases):
        from rollback_budget.cases.sql import SqlFailures
        from rollback_budget.hooks.metric_source import open_engine

        samples = rollout.spec.source
        log = samples.request_log if isinstance(samples, SqlSource) else None
        return await SqlFailures(source, log, await open_engine(source.conn_id)).failing(question)
    from rollback_budget.cases.http import open_http_cases
    from rollback_budget.hooks.http import open_http_client

    try:
        return await open_http_cases(source, await open_http_client(source.conn_id)).failing(question)
    finally:
        await close_shared_session()
