"""How two rules differ: in words, and in what they would have done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.backtest.extent import Extent
from rollback_budget.backtest.folder import RecordedFile
from rollback_budget.backtest.rule_change import Setting, compare_trials, rule_change
from rollback_budget.backtest.score import scores_of
from rollback_budget.backtest.trial import Trial, TrialOutcome, Trigger
from rollback_budget.model.budget import Comparison, Method, Tier
from rollback_budget.model.label import Label
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Watch
from tests.engine.builders import START, at, budget, rollout
from tests.support.examples import examples

pytestmark = pytest.mark.pure

P95 = "latency.p95_delta_pct"


def changed(spec: RolloutSpec, **changes: Any) -> RolloutSpec:
    return spec.model_copy(update=changes)


def test_a_rule_for_another_version_is_the_same_rule() -> None:
    old = rollout()
    assert not rule_change(old, changed(old, release="v99", baseline="v98", name="another", owner="bob"))


def test_a_budget_that_is_new_gone_or_another_is_said_in_words() -> None:
    old = rollout(budget(), budget("ttft"))
    new = rollout(budget(threshold=20.0, minutes=10, tier=Tier.A), budget("errors", Comparison.ABOVE, 0.1))
    change = rule_change(old, new)
    by_budget = {one.budget: one for one in change.budgets}
    assert list(by_budget) == [P95, "latency.ttft_delta_pct", "latency.errors_above"]
    p95 = by_budget[P95]
    assert p95.before is not None
    assert p95.after is not None
    assert p95.before.startswith("latency: if p95 rises more than 15 % above the baseline for 30 min, the")
    assert p95.after.startswith("latency: if p95 rises more than 20 % above the baseline for 10 min, the")
    assert by_budget["latency.ttft_delta_pct"].after is None
    assert by_budget["latency.errors_above"].before is None
    # A tier brings its severity only in a budget file: here it is as it was.
    assert p95.settings == ()


def test_what_no_sentence_says_is_listed_as_a_setting() -> None:
    old = rollout(budget())
    new = rollout(budget(min_samples=50, method=Method.SIGN))
    (one,) = rule_change(old, new).budgets
    assert one.before == one.after
    assert set(one.settings) == {
        Setting("method", "threshold", "sign"),
        Setting("min_samples", "1", "50"),
    }


def test_what_stands_around_the_budgets_is_compared_as_a_file_writes_it() -> None:
    old = rollout(watch=Watch(step=timedelta(minutes=1)))
    new = rollout(
        watch=Watch(step=timedelta(minutes=5)),
        metrics={"p95": Metric(kind=MetricKind.QUANTILE), "unused": Metric(kind=MetricKind.COUNT)},
    )
    settings = rule_change(old, new).settings
    assert Setting("watch.step", "1m", "5m") in settings
    assert Setting("metrics.p95.kind", None, "quantile") in settings
    assert not any("unused" in one.name for one in settings)


def test_defaults_of_a_metric_that_is_new_or_gone_are_no_settings() -> None:
    old = rollout(budget(), metrics={"p95": Metric(), "ttft": Metric(unit="s")})
    new = rollout(budget(), budget("ttft"), metrics={"ttft": Metric(unit="s")})
    assert rule_change(old, new).settings == ()
    plain = rollout(budget(), budget("ttft"))
    assert rule_change(new, plain).settings == (Setting("metrics.ttft.unit", "s", None),)


@st.composite
def rules(draw: st.DrawFn) -> RolloutSpec:
    """Rules that differ in what rules differ in."""
    names = draw(st.lists(st.sampled_from(("p95", "ttft", "errors")), min_size=1, unique=True))
    return rollout(
        *(
            budget(
                name,
                threshold=draw(st.sampled_from((5.0, 15.0))),
                minutes=draw(st.sampled_from((5, 30))),
                min_samples=draw(st.sampled_from((1, 20))),
            )
            for name in names
        ),
        minutes=draw(st.sampled_from((60, 120))),
    )


@given(rules(), rules())
@examples(100)
def test_rules_differ_exactly_when_what_decides_differs(old: RolloutSpec, new: RolloutSpec) -> None:
    one = {line.id: line for line in old.budgets}
    other = {line.id: line for line in new.budgets}
    change, back = rule_change(old, new), rule_change(new, old)
    assert bool(change) is ((one, old.window) != (other, new.window))
    assert {line.budget for line in change.budgets} == {
        name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    }
    # The way back is the same change, turned round.
    turned = {(line.budget, line.after, line.before) for line in back.budgets}
    assert {(line.budget, line.before, line.after) for line in change.budgets} == turned


def trip(minute: int, of: str = P95) -> Trigger:
    return Trigger(of, at(minute), float(minute), Method.THRESHOLD, None, "a breach")


def trial(label: Label | None, minute: int | None, **more: Any) -> Trial:
    trigger = None if minute is None else trip(minute)
    recording = RecordedFile(Path("a.csv"), label=label)
    triggers = () if trigger is None else (trigger,)
    extent = Extent(START, at(120), at(120), goes_on=False)
    return Trial(recording, START, at(120), triggers, trigger, None, extent, **more)


def test_outcomes_are_compared_rollout_by_rollout_and_in_counts() -> None:
    old = [trial(Label.GOOD, 40), trial(Label.BAD, None), trial(Label.BAD, 30), trial(None, None)]
    new = [
        trial(Label.GOOD, None, ends_early=True),
        trial(Label.BAD, 50),
        trial(Label.BAD, 20),
        trial(None, None),
    ]
    comparison = compare_trials(old, new)
    assert [one.differs for one in comparison.rollouts] == [True, True, True, False]
    assert comparison.rollouts[0].after.outcome is TrialOutcome.UNDECIDED
    before, after = comparison.before, comparison.after
    assert (before.false_trips, before.found, before.missed, before.undecided) == (1, 1, 1, 0)
    assert (after.false_trips, after.found, after.missed, after.undecided) == (0, 2, 0, 1)
    assert comparison.no_longer_known == 1


TTFT = "latency.ttft_delta_pct"
#: A rule of two budgets.
BOTH = frozenset((P95, TTFT))
WHY = {TTFT: "ttft was a gauge then, and is a quantile now"}


@pytest.mark.parametrize("turned", [False, True])
def test_a_budget_that_is_untried_under_one_rule_counts_under_neither(turned: bool) -> None:
    """Its trip at minute 10 decides what no rule can be compared in."""
    tried = replace(
        trial(Label.GOOD, None, stopping=BOTH), triggers=(trip(10, TTFT),), deciding=trip(10, TTFT)
    )
    other = trial(Label.GOOD, None, stopping=BOTH, untried=WHY)
    later = replace(tried, triggers=(trip(50), trip(10, TTFT)))
    both = ([tried, later], [other, trial(Label.GOOD, 50, stopping=BOTH, untried=WHY)])
    comparison = compare_trials(*(reversed(both) if turned else both))
    for one in comparison.rollouts:
        assert one.before == one.after
        assert not one.differs
    assert comparison.before == comparison.after
    assert (comparison.before.false_trips, comparison.before.undecided) == (1, 1)


def test_the_counts_are_those_of_a_backtest_of_the_same_rule() -> None:
    """A new budget that cannot be tried: the rule without it is decided, and the rule with it is not."""
    old = [trial(Label.GOOD, None, stopping=frozenset((P95,))), trial(Label.BAD, 40)]
    new = [trial(Label.GOOD, None, stopping=BOTH, untried=WHY), trial(Label.BAD, 40, stopping=BOTH)]
    comparison = compare_trials(old, new)
    spec = rollout(budget(), budget("ttft"))
    assert comparison.before == scores_of(spec, old)[0]
    assert comparison.after == scores_of(spec, new)[0]
    assert (comparison.before.undecided, comparison.after.undecided) == (0, 1)
    assert not any(one.differs for one in comparison.rollouts)
