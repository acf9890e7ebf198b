"""Verifying a rollback, on the control plane and on the traffic, and sending what nobody has sent yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollback_budget.engine.evaluation import Breach
from rollback_budget.ledger.views import RollbackRecord
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import OpenSource
from rollback_budget.targets.apply import ChangeReport, DeadlineClock, Outcome, TrafficChange, change_traffic
from rollback_budget.targets.base import NOTHING, Target
from rollback_budget.targets.verification import ReleaseTraffic

#: How many times a change that was accepted is waited for, a whole deadline each.
MOST_PROOFS = 2


@dataclass(frozen=True)
class VerifiedRollback:
    """What came of a rollback.

    :param baseline_problems: where the baseline is itself beyond a budget.
    :param release_serves: whether the release was last seen to get traffic.
    """

    report: ChangeReport
    baseline_problems: tuple[str, ...]
    release_serves: bool

    @property
    def is_settled(self) -> bool:
        """Whether no page is needed: the release is out, by this rollback or by a newer change."""
        if self.report.outcome is Outcome.SUPERSEDED:
            return not self.release_serves
        return self.report.outcome is Outcome.EFFECTIVE

    @property
    def detail(self) -> str:
        """What came of it, and what is wrong with the baseline."""
        return " ".join([self.report.detail, *map(say_baseline_problem, self.baseline_problems)])

    @property
    def sentence(self) -> str:
        """The detail, what both planes say, and what to do about it."""
        report = self.report
        planes = f"Control plane: {report.control_plane}. Data plane: {report.data_plane}."
        return f"{report.outcome.value}: {self.detail} {planes} {report.outcome.next_step}"

    def record(self, idempotency_key: str) -> RollbackRecord:
        """Return what the ledger keeps of it."""
        report = self.report
        return RollbackRecord(
            idempotency_key=idempotency_key,
            outcome=report.outcome,
            requested_at=report.requested_at,
            verified_at=report.verified_at,
            control_plane=report.control_plane,
            data_plane=report.data_plane,
            detail=self.detail,
        )


def verify_rollback(
    target: Target,
    spec: RolloutSpec,
    change: TrafficChange,
    *,
    open_source: OpenSource,
    close_sources: Callable[[], Coroutine[Any, Any, None]],
    breaches: Sequence[Breach] = (),
    before: Mapping[str, float] | None = None,
    warn: Callable[[str], None],
    log: Callable[[str], None],
    clock: DeadlineClock | None = None,
) -> VerifiedRollback:
    """Bring the target to ``change`` where it is not there yet, and verify it within the change's deadline.

    :param close_sources: closes what ``open_source`` opened, on the same event loop.
    :param breaches: what was breached, and shall recover.
    :param before: the baseline's values when the rollout began, by series; None when not known.
    :param warn: called at once when the baseline is itself unhealthy.
    :param clock: whose time of day counts; None for this host's.
    """
    clock = clock or DeadlineClock()
    if spec.source is None:
        return _verified(spec, change_traffic(target, change, clock=clock, log=log), ())
    with asyncio.Runner() as runner:
        observe = ReleaseTraffic(
            spec,
            open_source,
            runner,
            breaches=breaches,
            before=before,
            warn=lambda problem: warn(say_baseline_problem(problem)),
            now=clock.now,
        )
        try:
            report = change_traffic(target, change, observe=observe, clock=clock, log=log)
            problems = observe.baseline_problems(report.requested_at or clock.now())
            return _verified(spec, report, tuple(problems))
        finally:
            runner.run(close_sources())


def say_baseline_problem(problem: str) -> str:
    """Say where the baseline is itself beyond a budget."""
    return f"The baseline is itself unhealthy: {problem}."


def _verified(spec: RolloutSpec, report: ChangeReport, problems: tuple[str, ...]) -> VerifiedRollback:
    serving = report.serving
    return VerifiedRollback(report, problems, serving is not None and serving.share(spec.release) > NOTHING)
