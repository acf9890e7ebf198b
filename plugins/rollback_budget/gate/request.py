"""The request to check one launch; passed to the gate's own process as JSON."""

from __future__ import annotations

from pathlib import Path

from pydantic import AwareDatetime

from rollback_budget.debt.lifecycle import BYPASS_AREA
from rollback_budget.gate.result import BypassNote
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.model.base import Frozen
from rollback_budget.model.budget import Budget
from rollback_budget.model.launch_gate import LaunchGate
from rollback_budget.model.spec import RolloutSpec


class GateRequest(Frozen):
    """One launch to check.

    :param at: the time of the check, by which waivers hold and debts are overdue.
    :param gate: how the service is evaluated; None when its budget does not say.
    :param debts: every debt of the service.
    :param bypass: the newest recorded permission to launch this release past the gate, if one holds.
    """

    service: str
    release: str
    baseline: str
    at: AwareDatetime
    gate: LaunchGate | None
    budgets: tuple[Budget, ...]
    debts: tuple[Debt, ...]
    cases_folder: Path
    gate_folder: Path
    bypass: BypassNote | None = None

    @property
    def enforced(self) -> tuple[Debt, ...]:
        """The debts whose cases count: paid ones too, but no waived ones and no duplicates."""
        return tuple(
            debt
            for debt in self.debts
            if debt.state is not DebtState.DUPLICATE and not (debt.is_owed and debt.is_waived(self.at))
        )

    @property
    def to_be_covered(self) -> tuple[Debt, ...]:
        """The debts of which something must be expected: not those of bypasses, which are no breaches."""
        return tuple(debt for debt in self.enforced if debt.area != BYPASS_AREA)


def request_of(
    spec: RolloutSpec,
    debts: list[Debt],
    at: AwareDatetime,
    *,
    cases_folder: Path,
    gate_folder: Path,
    bypass: BypassNote | None = None,
) -> GateRequest:
    """Return the request to check the launch of ``spec``; debts of other services are left out."""
    return GateRequest(
        service=spec.service,
        release=spec.release,
        baseline=spec.baseline,
        at=at,
        gate=spec.launch_gate,
        budgets=spec.budgets,
        debts=tuple(debt for debt in debts if debt.service == spec.service),
        cases_folder=cases_folder,
        gate_folder=gate_folder,
        bypass=bypass,
    )
