"""Rule changes: how two rules differ, in words, and in what they would have done to past rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel

from rollback_budget.backtest.recording import Recording
from rollback_budget.backtest.score import Score, rule_score
from rollback_budget.backtest.trial import Trial, TrialOutcome, Trigger
from rollback_budget.budget_file.describe import say_budget
from rollback_budget.model.duration import write_duration
from rollback_budget.model.metric import UNDESCRIBED
from rollback_budget.model.spec import RolloutSpec

#: What a budget's sentence does not say, and its key and place do.
_UNSAID = ("method", "accounting", "min_samples", "severity")
_SECTIONS = ("window", "watch", "analysis", "decision")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that is another now, as a budget file would write it; None: it is not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One budget that is new, gone, or another now, in one sentence each.

    :param settings: what the sentences do not say.
    """

    budget: str
    before: str | None
    after: str | None
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleChange:
    """How two rules differ.

    :param settings: outside of the budgets.
    """

    budgets: tuple[BudgetChange, ...]
    settings: tuple[Setting, ...]

    def __bool__(self) -> bool:
        """Whether they differ at all; which versions they name is no difference."""
        return bool(self.budgets or self.settings)


@dataclass(frozen=True, slots=True)
class Result:
    """What a rule does to one rollout.

    :param trigger: what stops it, None when nothing does.
    """

    outcome: TrialOutcome
    trigger: Trigger | None


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """What two rules do to one rollout.

    :param warnings: what of it or its label lies outside of what was tried.
    """

    recording: Recording
    before: Result
    after: Result
    warnings: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether one of the rules stops it and the other does not, or in another minute."""
        return _minute(self.before) != _minute(self.after)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two rules do to the same rollouts, each without the budgets that cannot be tried."""

    rollouts: tuple[RolloutChange, ...]
    before: Score
    after: Score

    @property
    def no_longer_known(self) -> int:
        """How many rollouts that the old rule stopped wrongly are undecided under the new one."""
        return sum(
            one.before.outcome is TrialOutcome.FALSE_TRIP and one.after.outcome is TrialOutcome.UNDECIDED
            for one in self.rollouts
        )


def rule_change(old: RolloutSpec, new: RolloutSpec) -> RuleChange:
    """Return how two rules differ, whatever versions they are for."""
    old, new = (
        spec.model_copy(update={"release": "the release", "baseline": "the baseline"}) for spec in (old, new)
    )
    before, after = ({budget.id: budget for budget in spec.budgets} for spec in (old, new))
    budgets = []
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        said = None if one is None else say_budget(old, one)
        says = None if other is None else say_budget(new, other)
        settings: tuple[Setting, ...] = ()
        if one is not None and other is not None:
            settings = tuple(_differing(_flat(one, _UNSAID), _flat(other, _UNSAID)))
        if said != says or settings:
            budgets.append(BudgetChange(name, said, says, settings))
    used = {budget.metric for spec in (old, new) for budget in spec.budgets}
    return RuleChange(tuple(budgets), tuple(_differing(_around(old, new, used), _around(new, old, used))))


def compare_trials(old: Sequence[Trial], new: Sequence[Trial]) -> Comparison:
    """Compare what two rules did to the same rollouts, given in the same order.

    A budget that could not be tried on a rollout under one of the rules is left out of it under both.
    """
    pairs = [
        (before.without(after.untried), after.without(before.untried))
        for before, after in zip(old, new, strict=True)
    ]
    return Comparison(
        rollouts=tuple(
            RolloutChange(before.recording, _result(before), _result(after), _warnings(before, after))
            for before, after in pairs
        ),
        before=rule_score(before for before, _ in pairs),
        after=rule_score(after for _, after in pairs),
    )


def _result(trial: Trial) -> Result:
    return Result(trial.outcome, trial.deciding)


def _warnings(before: Trial, after: Trial) -> tuple[str, ...]:
    """Return the warnings of both trials: windows of another length warn of other things."""
    old, new = before.warnings, after.warnings
    if old == new:
        return new
    return (
        *(f"under the old rule, {said}" for said in old),
        *(f"under the new rule, {said}" for said in new),
    )


def _minute(result: Result) -> float | None:
    return None if result.trigger is None else result.trigger.minute


def _around(spec: RolloutSpec, other: RolloutSpec, metrics: set[str]) -> dict[str, str]:
    """Return everything outside of the budgets that changes what they do.

    Of a metric that only this one of the two describes, what is not the default.
    """
    default = _flat(UNDESCRIBED)
    found = _flat(spec, _SECTIONS)
    for name in sorted(metrics & spec.metrics.keys()):
        found |= {
            f"metrics.{name}.{path}": said
            for path, said in _flat(spec.metrics[name]).items()
            if name in other.metrics or default.get(path) != said
        }
    return found


def _flat(model: BaseModel, names: Sequence[str] | None = None) -> dict[str, str]:
    dumped = model.model_dump()
    return dict(_paths("", {name: dumped[name] for name in names} if names is not None else dumped))


def _paths(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is not None:
        yield prefix, _written(value)


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        return write_duration(value)
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Setting]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Setting(name, before.get(name), after.get(name))
