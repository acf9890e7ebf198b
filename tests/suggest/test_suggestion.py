"""Suggestions: a rule that is fine stays, and one that noise trips is made to keep its promise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.budget_file import load_budget
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Accounting, Budget, Comparison, Method, Tier, Worse
from rollback_budget.model.metric import Metric
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.watch_settings import Analysis
from rollback_budget.suggest.bootstrap import Bootstrap
from rollback_budget.suggest.candidates import fast_line, near
from rollback_budget.suggest.reasons import budget_reasons, reasons_of
from rollback_budget.suggest.record import record_of
from rollback_budget.suggest.search import Search, with_design_effect
from rollback_budget.suggest.snippet import snippet_of
from rollback_budget.suggest.suggestion import Suggestion, suggest_rule
from rollback_budget.suggest.windows import DrawnWindows
from tests.suggest.records import (
    BASELINE,
    DAY,
    JUDGE,
    METRIC,
    RELEASE,
    by_look,
    points,
    rollout,
    scores,
    traffic,
)

pytestmark = [pytest.mark.pure, pytest.mark.slow]


def said(spec: RolloutSpec, found: Suggestion) -> str:
    return "\n".join(
        [
            *reasons_of(found),
            *(
                reason
                for one, of in zip(spec.budgets, found.budgets, strict=True)
                for reason in budget_reasons(spec, one, of)
            ),
        ]
    )


def test_a_rule_that_keeps_its_promise_and_finds_harm_is_fine_as_it_is() -> None:
    spec = rollout(points(-10.0, 10))
    found = suggest_rule(spec, traffic(n=60), days=100)
    assert found.is_fine
    assert found.keeps_rate
    assert found.false_trips.count == 0
    assert not found.budgets[0].is_changed
    assert "fine as it is" in said(spec, found)


def test_a_rule_that_noise_trips_gets_a_line_that_it_does_not_trip() -> None:
    spec = rollout(points(-4.0, 4, method=Method.THRESHOLD))
    found = suggest_rule(spec, traffic(n=20, wander=0.03), days=200)
    assert not found.keeps_rate
    (line,) = found.budgets
    assert line.is_changed
    assert abs(line.proposed.threshold) >= 4.0
    assert line.proposed.false_trips.rate < line.current.false_trips.rate
    assert "carries no error-rate guarantee; `auto` would be sequential" in said(spec, found)


def test_clustered_requests_get_their_design_effect_and_a_fast_line_beside_a_slow_one() -> None:
    spec = rollout(points(-2.0, 20))
    found = suggest_rule(spec, traffic(2 * DAY, wander=0.05), days=100)
    (line,) = found.budgets
    assert line.clustering is not None
    assert found.proposed_design_effect == pytest.approx(line.clustering.careful, abs=0.01)
    assert found.proposed_keeps_rate
    assert line.fast is not None
    assert (line.fast.threshold, line.fast.max_duration) == (-20.0, timedelta(minutes=3))
    assert "design_effect" in found.yaml
    assert "requests come in clusters" in said(spec, found)


def test_a_design_effect_with_which_the_rule_trips_no_more_rarely_and_finds_less_is_not_proposed() -> None:
    spec = rollout(points(-2.0, 20))
    with DrawnWindows(Bootstrap(record_of(spec, traffic(n=60)), 60)) as windows:
        search = Search(windows, 100, timedelta(hours=1))
        old = search.try_rule(spec, range(100))
        tuned = with_design_effect(spec, 1.63)
        assert old.finds
        assert not search.try_rule(tuned, range(100)).finds
        assert search.propose(old, tuned).rule == old


@pytest.mark.parametrize("effect", [1.0, 2.5])
def test_a_rule_that_keeps_its_promise_stays_where_others_find_less_of_the_same_harm(effect: float) -> None:
    spec = rollout(points(-2.0, 3))
    with DrawnWindows(Bootstrap(record_of(spec, traffic(n=40)), 60)) as windows:
        search = Search(windows, 100, timedelta(hours=1))
        old = search.try_rule(spec, range(100))
        assert old.keeps
        assert old.lines[0].found is not None
        assert 0.1 < old.lines[0].found.in_time.rate < 0.5
        loose = search.try_rule(rollout(points(-6.0, 3)), range(100))
        # Of harm of its own size it finds more, of that of the old rule less.
        assert loose.finds
        assert search.propose(old, with_design_effect(spec, effect)).rule == old


def test_a_longer_duration_gets_no_more_time_to_find_harm() -> None:
    line = points(-4.0, 90, metric=JUDGE, comparison=Comparison.DELTA, method=Method.THRESHOLD)
    spec = rollout(
        line, hours=24, metrics={JUDGE: Metric(every=timedelta(hours=1))}, analysis=Analysis(alpha=0.2)
    )
    longer = spec.model_copy(
        update={"budgets": (line.model_copy(update={"max_duration": timedelta(hours=3)}),)}
    )
    with DrawnWindows(Bootstrap(record_of(spec, scores()), 5)) as windows:
        search = Search(windows, 100, timedelta(hours=2))
        old = search.try_rule(spec, range(100))
        assert old.keeps
        assert not old.finds
        # By its own durations it has twice the time, and finds harm then, long after the old one would have.
        assert search.try_rule(longer, range(100)).finds
        assert search.propose(old, spec).rule == old


def test_all_lines_of_a_budget_have_the_same_time_to_find_harm() -> None:
    line = points(-2.5, 90, metric=JUDGE, comparison=Comparison.DELTA, method=Method.THRESHOLD)
    spec = rollout(
        line, hours=24, metrics={JUDGE: Metric(every=timedelta(hours=1))}, analysis=Analysis(alpha=0.2)
    )
    found = suggest_rule(spec, scores(), days=100).budgets[0]
    assert found.proposed.max_duration > found.current.max_duration
    assert found.current.found is not None
    assert found.proposed.found is not None
    assert found.proposed.found.within == found.current.found.within


def test_a_rule_that_stays_though_it_finds_too_little_is_not_called_fine() -> None:
    spec = rollout(points(-2.0, 3))
    found = suggest_rule(spec, traffic(n=40), days=100, find_within=timedelta(hours=1))
    assert found.is_fine
    assert "fine as it is" not in said(spec, found)
    assert "the rule stays as it is: none near it keeps" in said(spec, found)


def test_a_design_effect_that_is_left_out_is_said() -> None:
    spec = rollout(points(-10.0, 10))
    found = suggest_rule(spec, traffic(n=60), days=100)
    assert found.left_design_effect is None
    left = found.model_copy(update={"left_design_effect": 1.8})
    assert "in clusters (design effect 1.80), and it is not proposed" in said(spec, left)


def test_auto_is_answered_with_a_number() -> None:
    spec = rollout(points(-10.0, 10), analysis=Analysis(design_effect="auto"))
    found = suggest_rule(spec, traffic(n=60), days=100)
    assert found.design_effect is None
    assert found.proposed_design_effect >= 1.0
    assert not found.is_fine


def test_the_same_seed_says_the_same() -> None:
    spec, record = rollout(points(-8.0, 3, method=Method.THRESHOLD, tier=Tier.C)), traffic(n=20)
    assert suggest_rule(spec, record, days=100) == suggest_rule(spec, record, days=100)
    assert suggest_rule(spec, record, days=100) != suggest_rule(spec, record, days=100, seed=2)


def test_values_without_counts_are_tried_and_said_to_have_no_design_effect() -> None:
    spec = rollout(points(-10.0, 10))
    bare = [sample._replace(n=None) for sample in traffic(n=60)]
    found = suggest_rule(spec, bare, days=100)
    assert found.budgets[0].forecast.method is Method.SIGN
    assert "no design effect can be told: 0 steps with counts" in found.budgets[0].warnings[0]


def test_a_budget_without_samples_is_said_to_have_none() -> None:
    spec = rollout(points(-10.0, 10), points(-10.0, 10, id="quality.other", metric="other"))
    found = suggest_rule(spec, traffic(n=60), days=100)
    assert "nothing can be said of it" in said(spec, found)


def test_a_change_in_the_record_is_a_warning() -> None:
    record = traffic(n=60, change=lambda minute: -0.08 if minute > DAY // 2 else 0.0)
    found = suggest_rule(rollout(points(-10.0, 10)), record, days=100)
    assert any("no time without change" in warning for warning in found.budgets[0].warnings)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (lambda: traffic(600), "10 h recorded"),
        (
            lambda: [one for one in traffic() if one.version == RELEASE],
            "no sample of model-v41, the baseline",
        ),
        (
            lambda: [one for one in traffic() if one.version == BASELINE],
            "no sample of model-v42, the release",
        ),
        (lambda: [one._replace(series="other") for one in traffic()], "no sample of model-v42, the release"),
        (
            lambda: [
                one._replace(time=one.time + timedelta(seconds=17 * (k % 4 > 1)))
                for k, one in enumerate(traffic())
            ],
            "not 1 min apart",
        ),
    ],
)
def test_a_record_that_is_no_good_is_refused(record: Callable[[], list[Sample]], said: str) -> None:
    with pytest.raises(SeriesError, match=said):
        suggest_rule(rollout(), record(), days=100)


def test_near_lines_are_looser_the_nearest_first() -> None:
    lines = [
        (line.threshold, line.max_duration / timedelta(minutes=1))
        for line in near(rollout(), points(-2.0, 20))
    ]
    assert lines[:4] == [(-2.0, 20), (-2.0, 30), (-2.0, 40), (-3.0, 20)]
    assert all(threshold <= -2.0 and minutes >= 20 for threshold, minutes in lines)
    events = [
        line.threshold
        for line in near(rollout(), points(0.0, 0, comparison=Comparison.INCREASE, worse=Worse.HIGHER))
    ]
    assert events == [0.0, 1.0, 2.0, 5.0]
    assert {line.threshold for line in near(rollout(), points(0.0, 20))} == {0.0, -1.0, -2.0, -5.0}


@pytest.mark.parametrize(
    ("budget", "threshold"),
    [
        (points(-2.0, 20), -20.0),
        (points(-8.0, 20), -30.0),
        (points(-10.0, 20), None),
        (points(-2.0, 3), None),
        (points(15.0, 20, comparison=Comparison.DELTA_PCT, worse=Worse.HIGHER), 150.0),
        (points(-6.0, 20, comparison=Comparison.DELTA_PCT), -50.0),
        (points(8.0, 20, comparison=Comparison.ABOVE, worse=Worse.HIGHER), None),
    ],
)
def test_a_fast_line_is_for_big_harm_that_can_be(budget: Budget, threshold: float | None) -> None:
    fast = fast_line(rollout(budget), budget)
    assert (None if fast is None else fast.threshold) == threshold


def test_a_budget_with_a_faster_line_gets_no_other() -> None:
    slow, quick = points(-2.0, 20), points(-20.0, 3, id="quality.quick")
    assert fast_line(rollout(slow, quick), slow) is None


RULE = """\
release: model-v42
baseline: model-v41
window: 24h
"""


def test_the_snippet_loads_as_the_rule_that_was_tried(tmp_path: Path) -> None:
    every = (
        points(-2.5, 20),
        points(-20.0, 3, method=Method.SEQUENTIAL, tier=Tier.C, severity="minor"),
        points(15.0, 1.5, area="latency", metric="p95", comparison=Comparison.DELTA_PCT, worse=Worse.HIGHER),
        points(
            0.0,
            0,
            area="safety",
            metric="incidents",
            comparison=Comparison.INCREASE,
            worse=Worse.HIGHER,
            tier=Tier.A,
            severity="critical",
            min_samples=0,
        ),
        points(0.0, 30, area="other", metric="score", comparison=Comparison.DELTA, slice="eu", min_samples=5),
        points(8.0, 0, area="load", metric="p95", comparison=Comparison.ABOVE, worse=Worse.HIGHER),
        points(
            0.0,
            5,
            area="more",
            metric="events",
            comparison=Comparison.INCREASE,
            worse=Worse.HIGHER,
            min_samples=0,
            accounting=Accounting.CUMULATIVE,
        ),
    )
    path = tmp_path / "budget.yaml"
    path.write_text(RULE + snippet_of(rollout(*every), 2.5))
    loaded = load_budget(path)
    assert loaded.analysis.design_effect == 2.5
    assert len(loaded.budgets) == len(every)
    for budget, wanted in zip(loaded.budgets, every, strict=True):
        assert budget.model_copy(update={"id": wanted.id}) == wanted
    assert METRIC in snippet_of(rollout(), None)
    assert "analysis" not in snippet_of(rollout(), None)


def test_a_rule_that_records_only_stops_nothing() -> None:
    spec = rollout(points(-1.0, 2, tier=Tier.C, method=Method.THRESHOLD))
    found = suggest_rule(spec, traffic(n=20, wander=0.05), days=100)
    assert found.budgets[0].current.false_trips.count > 0
    assert found.false_trips.count == 0


def test_equal_versions_without_noise_trip_nothing() -> None:
    record = by_look(lambda minute, _: ((minute * 37 % 11 + 80) / 100, 100.0))
    found = suggest_rule(rollout(points(-5.0, 10)), record, days=100)
    assert found.false_trips.count == 0
