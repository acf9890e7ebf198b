"""Suspensions over HTTP: reading needs the right to see the DAG, changing the right to edit it."""

# FastAPI reads the annotations of its routes when it is built, so their names are imported here.
from __future__ import annotations

from datetime import datetime
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from fastapi import APIRouter, Depends, HTTPException, status
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.engine.suspension import Suspension, suspendable_names
from rollback_budget.ledger.views import LoggedSuspension, Scope

router = APIRouter(prefix="/api/dags/{dag_id}/suspensions")

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
_EDITS = [Depends(requires_access_dag("PUT"))]


class NewSuspension(BaseModel):
    """What to suspend.

    :param budget: a budget's id, an area, or ``all``.
    :param run_id: for this run alone; None for every run of the DAG.
    """

    model_config = ConfigDict(extra="forbid")

    budget: _Text
    until: AwareDatetime
    reason: _Text
    run_id: str | None = None


class SuspensionView(BaseModel):
    """A suspension as it is shown."""

    id: int
    dag_id: str | None
    run_id: str | None
    name: str | None
    budget: str
    since: datetime
    until: datetime
    by: str
    reason: str
    active: bool
    ended_by: str | None
    ended_reason: str | None


@router.get("", dependencies=[Depends(requires_access_dag("GET"))])
def list_suspensions(dag_id: str, every: bool = False) -> list[SuspensionView]:
    """Return the suspensions that hold for rollouts of a DAG now (``every``: those that held, too)."""
    now, ledger = utc_now(), open_ledger()
    rollouts = [one for one in ledger.rollouts.named(dag_id) if one.key.dag_id == dag_id]
    return [
        _view(one, now)
        for one in ledger.suspensions.ending_after(after=None if every else now)
        if one.scope.dag_id == dag_id
        or any(one.scope.includes(rollout.key, rollout.spec) for rollout in rollouts)
    ]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[*_EDITS, Depends(action_logging("rollback_budget_suspend"))],
)
def suspend(dag_id: str, body: NewSuspension, user: GetUserDep) -> SuspensionView:
    """Suspend a budget from the next look on; the author is who is logged in."""
    now, ledger = utc_now(), open_ledger()
    if body.until <= now:
        raise _refused(f"`until` is not in the future; it is {now.isoformat()} now")
    specs = [
        one.spec for one in ledger.rollouts.named(dag_id) if one.key.dag_id == dag_id and one.final is None
    ]
    known = suspendable_names(specs)
    if specs and body.budget not in known:
        raise _refused(f"no budget or area is called {body.budget!r}; known: {', '.join(known)}")
    by = str(user.get_name())
    suspension = Suspension(budget=body.budget, since=now, until=body.until, by=by, reason=body.reason)
    return _view(ledger.suspensions.add(Scope(dag_id=dag_id, run_id=body.run_id), suspension), now)


@router.delete("/{number}", dependencies=[*_EDITS, Depends(action_logging("rollback_budget_resume"))])
def resume(dag_id: str, number: int, user: GetUserDep, reason: str = "") -> SuspensionView:
    """End a suspension of this DAG early."""
    now, ledger = utc_now(), open_ledger()
    logged = ledger.suspensions.get(number)
    if logged is None or logged.scope.dag_id != dag_id:
        # One that was named by release or service may hold for DAGs that this user must not touch.
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            f"{dag_id} has no suspension {number} of its own; one by release or service is ended by"
            " `rollback-budget resume`",
        )
    return _view(ledger.suspensions.end(number, str(user.get_name()), reason.strip(), now), now)


def _refused(why: str) -> HTTPException:
    return HTTPException(status.HTTP_400_BAD_REQUEST, why)


def _view(one: LoggedSuspension, now: datetime) -> SuspensionView:
    return SuspensionView(
        id=one.id,
        dag_id=one.scope.dag_id,
        run_id=one.scope.run_id,
        name=one.scope.name,
        budget=one.suspension.budget,
        since=one.suspension.since,
        until=one.suspension.until,
        by=one.suspension.by,
        reason=one.suspension.reason,
        active=one.is_active(now),
        ended_by=one.ended_by,
        ended_reason=one.ended_reason,
    )
