"""Whether the named commanders can be users of this deployment at all."""

from __future__ import annotations

from airflow.configuration import conf

from rollback_budget.model.spec import RolloutSpec


def commander_problems(spec: RolloutSpec) -> list[str]:
    """Return one line for each commander whom the deployment's auth manager could never let answer."""
    manager = conf.get("core", "auth_manager", fallback="")
    if not manager.endswith("FabAuthManager"):
        return []
    return [
        f"incident_commander {user.id!r}: users of {manager.rsplit('.', 1)[-1]} are known by their number; "
        f'`airflow users list` says which is theirs, write {{id: "3", name: {user.name}}}'
        for user in spec.incident_commanders
        if not user.id.isdigit()
    ]
