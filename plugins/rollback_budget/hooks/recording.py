"""Reading a range of time from the source that a spec names, page by page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import RecordingError, SourceError
from rollback_budget.hooks.connections import connection_problem
from rollback_budget.hooks.http import close_shared_session
from rollback_budget.hooks.metric_source import open_shared_source
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.recording.plan import RecordingPlan
from rollback_budget.recording.read import PAGE, Recording, RecordingInMemory, read_pages
from rollback_budget.sources.base import Source, is_watermarked

R = TypeVar("R", bound=Recording)


async def record_source(
    spec: RolloutSpec,
    plan: RecordingPlan,
    begin: Callable[[RecordingPlan], R],
    *,
    page: timedelta = PAGE,
    on_page: Callable[[datetime], None] = lambda _: None,
    to_watermark: bool = True,
) -> R:
    """Read what ``plan`` says from the source of ``spec``, with the retries of a watch, in a loop of its own.

    :param begin: makes the recording of a plan.
    :param to_watermark: whether to leave out what the source's watermark says is not in yet.
    :raises SourceError: the source cannot be opened, or gives no answer.
    :raises RecordingError: there is nothing to read, or it cannot be written.
    """
    try:
        source = await open_shared_source(spec)
        recording = begin(await _settled(plan, source) if to_watermark else plan)
        await read_pages(source, recording, page=page, on_page=on_page)
        return recording
    finally:
        await close_shared_session()


async def read_latest(spec: RolloutSpec, plan: RecordingPlan) -> list[Sample]:
    """Return the samples of ``plan``, in a loop of its own; raises :class:`SourceError`."""
    return (await record_source(spec, plan, RecordingInMemory, to_watermark=False)).samples


def require_connection(spec: RolloutSpec) -> None:
    """Refuse a source that a process outside of Airflow's tasks cannot reach; raises :class:`SourceError`."""
    conn_id = getattr(spec.source, "conn_id", None)
    problem = None if conn_id is None else connection_problem(conn_id)
    if problem is not None:
        raise SourceError(
            f"{problem}. Here connections come from the environment (AIRFLOW_CONN_{str(conn_id).upper()}) or"
            " from the secrets backend of Airflow's configuration, and not from Airflow's database",
            transient=False,
        )


async def _settled(plan: RecordingPlan, source: Source) -> RecordingPlan:
    if not is_watermarked(source):
        return plan
    until = await source.settled_until()
    if until is None:
        raise RecordingError("the source says that no row is in yet (source.watermark)")
    return plan.until(until)
