"""The track record of the budgets: what is counted, and what is said not to be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine.evaluation import Blind
from rollback_budget.engine.suspension import Suspension
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision, LoggedLabel, RecordedOverride, RollbackRecord
from rollback_budget.model.budget import Method, Tier
from rollback_budget.model.choice import RULE, SILENCE
from rollback_budget.model.decision import Action, Decision, TierDecision
from rollback_budget.model.label import Label
from rollback_budget.model.metric import BucketBy, Metric
from rollback_budget.targets.apply import Outcome
from rollback_budget.track_record.known_label import KnownLabel, known_label
from rollback_budget.track_record.rollout_record import Ending, LookCounts, RolloutRecord
from rollback_budget.track_record.track_record import TrackRecord, track_record_of
from tests.support.examples import examples
from tests.support.rollouts import NOON, make_breach, make_spec

pytestmark = pytest.mark.pure

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOW = NOON + timedelta(days=30)
P95 = "latency.p95_delta_pct"
GOOD = KnownLabel(Label.GOOD, None, "alice")
BAD = KnownLabel(Label.BAD, NOON + 40 * MINUTE, "alice")
#: Gone bad after the breach.
LATER = KnownLabel(Label.BAD, NOON + 2 * HOUR, "alice")


def record(**changes: Any) -> RolloutRecord:
    """A rollout of a day from noon, promoted by the rule at its end."""
    values: dict[str, Any] = {
        "key": RolloutKey("rollout", "1"),
        "spec": make_spec(),
        "opened_at": NOON - HOUR,
        "shipped_at": NOON,
        "window_end": NOON + 24 * HOUR,
        "final": Final(FinalDecision.PROMOTED, RULE, "its budgets kept", NOON + 24 * HOUR),
    }
    return RolloutRecord(**{**values, **changes})


def rolled_back(by: str = RULE, at: timedelta = HOUR, **changes: Any) -> RolloutRecord:
    """A rollout whose p95 was bad from half an hour after noon on, and breached after an hour."""
    values: dict[str, Any] = {
        "final": Final(FinalDecision.ROLLED_BACK, by, "a breach", NOON + at),
        "breaches": (make_breach(NOON + HOUR),),
        "rollback": RollbackRecord(
            "key", Outcome.EFFECTIVE, NOON + at, NOON + at + 2 * MINUTE, "it says so", "no traffic"
        ),
    }
    return record(**{**values, **changes})


def of(*records: RolloutRecord) -> TrackRecord:
    return track_record_of(records, NOW)


@pytest.mark.parametrize(
    ("one", "ending"),
    [
        (record(), Ending.PROMOTED),
        (rolled_back(), Ending.BY_RULE),
        (rolled_back("alice"), Ending.BY_COMMANDER),
        (rolled_back(SILENCE), Ending.BY_SILENCE),
        (record(final=None, window_end=NOW - HOUR), Ending.OPEN),
        (record(final=None), Ending.NO_DECISION),
        (record(final=None, shipped_at=None, window_end=None), Ending.NOT_SHIPPED),
        (record(final=None, shipped_at=None, window_end=None, opened_at=NOW - HOUR), Ending.OPEN),
    ],
)
def test_every_rollout_has_one_ending(one: RolloutRecord, ending: Ending) -> None:
    assert one.ending(NOW) is ending
    assert of(one).endings == {ending: 1}


def test_a_rollout_is_open_until_a_day_after_the_last_look_at_its_latest_metric_was_due() -> None:
    spec = make_spec(metrics={"p95": Metric(every=HOUR, lag=30 * HOUR)})
    waits = record(spec=spec, final=None)
    assert waits.window_end is not None
    endings = [waits.ending(waits.window_end + hours * HOUR) for hours in (25, 53, 55)]
    assert endings == [Ending.OPEN, Ending.OPEN, Ending.NO_DECISION]


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (rolled_back(label=GOOD), "false_trips"),
        (rolled_back(label=BAD), "found"),
        (rolled_back(label=LATER), "false_trips"),
        (rolled_back(label=KnownLabel(Label.BAD, None, "alice")), "found"),
        (rolled_back(), "unlabelled"),
        (record(label=BAD), "missed"),
        (record(label=BAD, breaches=(make_breach(NOON + HOUR),)), "overridden"),
        (
            record(label=LATER, breaches=(make_breach(NOON + HOUR),)),
            "missed",
        ),
        (record(label=GOOD), None),
        (record(), None),
    ],
)
def test_a_rollout_counts_as_what_its_label_and_its_breaches_say(
    one: RolloutRecord, outcome: str | None
) -> None:
    made = of(one)
    for outcomes in (made.outcomes, made.budgets[0].outcomes):
        counts = {name: getattr(outcomes, name) for name in outcomes.__slots__}
        assert {name for name, count in counts.items() if count} == ({outcome} if outcome else set())


def test_a_breach_that_is_only_recorded_stops_nothing() -> None:
    spec = make_spec(decision=Decision(tier_c_breach=TierDecision(action=Action.RECORD_ONLY)))
    line = spec.budgets[0].model_copy(update={"tier": Tier.C})
    spec = spec.model_copy(update={"budgets": (line,)})
    made = of(record(spec=spec, label=BAD, breaches=(make_breach(NOON + HOUR, tier=Tier.C),)))
    assert (made.budgets[0].breaches, made.budgets[0].outcomes.missed) == (1, 1)


def test_what_a_commander_stopped_without_a_breach_is_found_by_another_than_the_budget() -> None:
    made = of(rolled_back("alice", label=KnownLabel(Label.BAD, None, "alice", is_assumed=True), breaches=()))
    assert (made.outcomes.found, made.assumed_bad) == (1, 1)
    assert (made.budgets[0].outcomes.found, made.budgets[0].found_by_another) == (0, 1)
    assert (made.harm.measured, made.harm.unknown) == (0, 1)


def test_harm_is_from_the_onset_else_from_the_breach_until_the_rollback_is_verified() -> None:
    labelled, unlabelled = rolled_back(label=BAD), rolled_back()
    made = of(labelled, unlabelled, rolled_back(rollback=None), rolled_back(label=GOOD))
    assert of(labelled).harm.total == 22 * MINUTE
    assert of(unlabelled).harm.total == 33 * MINUTE
    assert (made.harm.measured, made.harm.from_breach, made.harm.unknown) == (2, 1, 1)
    assert (made.harm.total, made.harm.median) == (55 * MINUTE, 27.5 * MINUTE)
    requested = RollbackRecord("key", None, NOON + HOUR, None)
    assert of(rolled_back(label=BAD, rollback=requested)).harm.total == 20 * MINUTE


@pytest.mark.parametrize(
    ("metric", "method", "minutes"),
    [
        (Metric(), Method.THRESHOLD, 33),
        (Metric(every=10 * MINUTE), Method.THRESHOLD, 42),
        (Metric(every=10 * MINUTE), Method.SEQUENTIAL, 32),
        (Metric(lag=5 * MINUTE, bucket_by=BucketBy.ARRIVAL), Method.THRESHOLD, 38),
        (Metric(every=HOUR), Method.THRESHOLD, 62),
    ],
)
def test_harm_from_the_breach_on_begins_where_its_first_bad_look_begins(
    metric: Metric, method: Method, minutes: int
) -> None:
    spec = make_spec(metrics={"p95": metric})
    one = rolled_back(spec=spec, breaches=(make_breach(NOON + HOUR, method=method),))
    assert of(one).harm.total == minutes * MINUTE


def test_an_override_is_followed_to_what_became_of_the_rollout() -> None:
    override = RecordedOverride(1, (P95,), "alice", "known", NOON + HOUR, NOON + 24 * HOUR)
    again = make_breach(NOON + 3 * HOUR)
    made = of(
        record(overrides=(override,), label=BAD),
        rolled_back(at=3 * HOUR, overrides=(override,), breaches=(make_breach(NOON + HOUR), again)),
        record(overrides=(override,), final=None, window_end=NOW),
    )
    assert made.overrides.count == made.budgets[0].overrides.count == 3
    assert made.overrides.ended == {Ending.PROMOTED: 1, Ending.BY_RULE: 1, Ending.OPEN: 1}
    assert made.overrides.labelled == {Label.BAD: 1, None: 2}
    # What was gone past did not lead to the rollback.
    assert of(rolled_back(at=3 * HOUR, overrides=(override,))).budgets[0].outcomes.unlabelled == 0


def test_suspensions_that_overlap_count_once_and_only_while_it_was_watched() -> None:
    def hold(budget: str, since: timedelta, until: timedelta) -> Suspension:
        return Suspension(budget=budget, since=NOON + since, until=NOON + until, by="alice", reason="test")

    holds = (hold(P95, -HOUR, HOUR), hold("latency", HOUR / 2, 2 * HOUR), hold("safety", HOUR, 5 * HOUR))
    late = hold("all", 23 * HOUR, 30 * HOUR)
    made = of(record(suspensions=(late, *holds)))
    assert made.budgets[0].suspended == 3 * HOUR


def test_blind_verdicts_and_unknown_looks_are_counted_and_pruned_looks_are_said() -> None:
    area = Blind(area="latency", since=NOON, sentence="latency was not seen")
    other = Blind(area="quality", since=NOON, sentence="quality was not seen")
    own = Blind(area="latency", since=NOON, sentence="p95 was not judged", budgets=(P95,))
    made = of(
        record(blind=(area, other, own), looks={P95: LookCounts(100, 7)}),
        record(looks={P95: LookCounts(20, 0)}),
        record(),
    )
    (budget,) = made.budgets
    assert (made.blind, budget.blind) == (3, 2)
    assert (budget.looks, budget.without_looks) == (LookCounts(120, 7), 1)


def test_what_is_still_open_is_neither_missed_nor_without_a_label() -> None:
    made = of(record(final=None, window_end=NOW, label=BAD))
    assert (made.outcomes.missed, made.labels, made.budgets[0].rollouts) == (0, {}, 1)


def test_budgets_of_the_same_name_in_two_services_are_two() -> None:
    made = of(record(), record(spec=make_spec(service="search")))
    assert [(one.service, one.budget, one.rollouts) for one in made.budgets] == [
        ("search", P95, 1),
        ("support-bot", P95, 1),
    ]


def test_a_person_is_believed_before_the_commanders_rollback_and_the_last_one_holds() -> None:
    by_alice = Final(FinalDecision.ROLLED_BACK, "alice", "looks bad", NOON)
    good = LoggedLabel(Label.GOOD, None, "bob", "", NOON)
    bad = LoggedLabel(Label.BAD, NOON, "carol", "", NOON)
    assert known_label(by_alice, []) == KnownLabel(Label.BAD, None, "alice", is_assumed=True)
    assert known_label(by_alice, [bad, good]) == KnownLabel(Label.GOOD, None, "bob")
    assert known_label(None, [good, bad]) == KnownLabel(Label.BAD, NOON, "carol")
    for by in (RULE, SILENCE):
        assert known_label(replace(by_alice, by=by), []) is None
    assert known_label(Final(FinalDecision.PROMOTED, "alice", "go", NOON), []) is None


@st.composite
def records(draw: st.DrawFn) -> RolloutRecord:
    """Any rollout that the ledger can hold."""
    final = draw(st.sampled_from((None, "promoted", RULE, SILENCE, "alice")))
    at = NOON + draw(st.integers(60, 1440)) * MINUTE
    onset: datetime | None = draw(st.sampled_from((None, NOON, NOON + 3 * HOUR)))
    label = draw(st.sampled_from((None, GOOD, KnownLabel(Label.BAD, onset, "bob"))))
    breaches = tuple(make_breach(NOON + hour * HOUR) for hour in draw(st.sets(st.integers(1, 5))))
    shipped = draw(st.booleans())
    if final is None or not shipped:
        decided = None
    else:
        what = FinalDecision.PROMOTED if final == "promoted" else FinalDecision.ROLLED_BACK
        decided = Final(what, RULE if final == "promoted" else final, "why", at)
    return record(
        final=decided,
        shipped_at=NOON if shipped else None,
        window_end=NOON + 24 * HOUR if shipped else None,
        label=label if shipped else None,
        breaches=breaches if shipped else (),
    )


@given(st.lists(records(), max_size=8))
@examples(80)
def test_every_rollout_that_is_over_is_counted_exactly_once(some: list[RolloutRecord]) -> None:
    made = of(*some)
    assert sum(made.endings.values()) == len(some)
    shipped = [one for one in some if one.shipped_at is not None]
    assert sum(made.labels.values()) == len(shipped)
    bad = Counter(one.label.label for one in shipped if one.label is not None)[Label.BAD]
    rolled = [one for one in shipped if one.ending(NOW).is_rolled_back]
    rule = made.outcomes
    assert rule.found + rule.false_trips + rule.unlabelled == len(rolled)
    assert rule.missed + rule.overridden == sum(
        one.label is not None and one.label.label is Label.BAD for one in shipped if one not in rolled
    )
    for one in made.budgets:
        out = one.outcomes
        assert one.rollouts == len(shipped)
        # A bad rollout is found, missed, overridden, found by another, or was tripped too early.
        assert out.found + out.missed + out.overridden + one.found_by_another <= bad
        assert bad <= out.found + out.missed + out.overridden + one.found_by_another + out.false_trips
