"""One rollout of a service at a time: who holds it, and is that one still alive?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rollback_budget.clock import Log, utc_now

if TYPE_CHECKING:
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import Rollout
    from rollback_budget.model.spec import RolloutSpec

_UNDER_WAY = ["queued", "running"]


def holders_of(
    ledger: Ledger, key: RolloutKey, spec: RolloutSpec, ti: Any, log: Log, *, claim: bool
) -> list[Rollout]:
    """Return the living rollouts of this service other than this one.

    A run that ended without a word in the ledger (marked failed, its tasks dead) holds nothing. A run that
    this Airflow does not know holds until its window's end.

    :param ti: the running task instance; Airflow is queried through it.
    :param claim: open this rollout in the ledger when no other rollout holds the service, atomically.
    """
    ended: set[RolloutKey] = set()
    while True:
        now = utc_now()
        if claim:
            others = ledger.rollouts.claim_service(key, spec, now, ended)
        else:
            others = ledger.rollouts.under_way(key, spec, now)
        dead = [other for other in others if other.key not in ended and not _is_alive(other, ti, now)]
        for other in dead:
            log.warning(
                "the rollout %s of %s (%s) ended without a settled end, so it does not hold the service;"
                " look whether its release still serves",
                other.spec.release,
                other.spec.service,
                other.key,
            )
        ended.update(other.key for other in dead)
        alive = [other for other in others if other.key not in ended]
        if alive or not dead or not claim:
            return alive


def say_holder(other: Rollout) -> str:
    """Say who holds a service, and until when at most."""
    until = f"{held_until(other):%Y-%m-%d %H:%M} UTC"
    return f"{other.spec.release} against {other.spec.baseline} ({other.key}), watched until {until}"


def held_until(other: Rollout) -> datetime:
    """Return when the window is watched to its end; before it has opened, had it opened with the rollout."""
    from rollback_budget.model.pace import longest_shift

    return (other.window_end or other.opened_at + other.spec.window) + longest_shift(other.spec)


def _is_alive(other: Rollout, ti: Any, now: datetime) -> bool:
    run = {"dag_id": other.key.dag_id, "run_ids": [other.key.run_id]}
    if ti.get_dr_count(**run, states=_UNDER_WAY) > 0:
        return True
    return ti.get_dr_count(**run) == 0 and now < held_until(other)
