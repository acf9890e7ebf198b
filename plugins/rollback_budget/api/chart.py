"""The chart of a rollout over HTTP: delta and burn of every budget, as far as it has been watched."""

# FastAPI reads the annotations of its routes when it is built, so their names are imported here.
from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Response, status

from rollback_budget.charts import check_format, draw_trace
from rollback_budget.common.config import open_ledger
from rollback_budget.engine.trace import BudgetTrace, Trace, TracePoint
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Rollout
from rollback_budget.model.method_plan import alpha_of

router = APIRouter(prefix="/api/dags/{dag_id}/runs/{run_id}")

#: Names of releases and metrics are in the picture: whatever they are, nothing in it runs or loads.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/chart.svg", dependencies=[Depends(requires_access_dag("GET"))])
def chart(dag_id: str, run_id: str) -> Response:
    """Return the chart of a rollout, for users who may see its DAG."""
    key, ledger = RolloutKey(dag_id, run_id), open_ledger()
    rollout = ledger.rollouts.get(key)
    if rollout is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"the ledger knows no rollout {key}")
    trace = trace_in(ledger, rollout)
    if not any(track.points for track in trace.budgets):
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"there is no look at {key} yet; try again in a minute"
        )
    with tempfile.TemporaryDirectory(prefix="rollback-budget-") as folder:
        file = Path(folder) / "chart.svg"
        try:
            check_format(file)
        except RollbackBudgetError as error:
            raise HTTPException(status.HTTP_501_NOT_IMPLEMENTED, str(error).partition(": ")[2]) from None
        draw_trace(trace, file)
        return Response(file.read_bytes(), media_type="image/svg+xml", headers=_HEADERS)


def trace_in(ledger: Ledger, rollout: Rollout) -> Trace:
    """Return where every budget of a rollout stood at every look that the ledger holds."""
    points: dict[str, list[TracePoint]] = defaultdict(list)
    for look in ledger.looks.of(rollout.key):
        points[look.budget].append(TracePoint(look.time, look.delta, look.burn, look.p_value))
    breached = {
        logged.breach.budget: logged.breach.breached_at for logged in ledger.breaches.of(rollout.key)[::-1]
    }
    spec = rollout.spec
    budgets = (
        BudgetTrace(budget, tuple(points[budget.id]), breached.get(budget.id)) for budget in spec.budgets
    )
    title = f"{spec.service}: {spec.release} against {spec.baseline}"
    return Trace(title, alpha_of(spec), None, tuple(budgets))
