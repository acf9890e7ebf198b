"""What names a rollout in the ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RolloutKey:
    """Names a rollout: one run of one DAG."""

    dag_id: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.dag_id} {self.run_id}"
