"""Where a verdict leads, for every combination of what may have happened."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from rollback_budget.engine.decision_policy import NextStep, next_step, rounds_of
from rollback_budget.engine.evaluation import Blind, Evaluation, VerdictKind
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.model.budget import Tier
from rollback_budget.model.decision import Action, Decision, OnTimeout, TierDecision
from rollback_budget.model.watch_settings import OnBlind, Watch
from tests.engine.builders import START, rollout
from tests.support.rollouts import make_breach

pytestmark = pytest.mark.pure


def verdict(*tiers: Tier, blind: bool = False) -> Evaluation:
    kind = VerdictKind.BLIND if blind else VerdictKind.BREACH if tiers else VerdictKind.HEALTHY
    return Evaluation(
        verdict=kind,
        final=True,
        release="model-v42",
        baseline="model-v41",
        spec_sha256="0" * 64,
        window_start=START,
        window_end=START,
        evaluated_until=START,
        breaches=tuple(make_breach(tier=tier) for tier in tiers),
        blind=Blind(area="quality", since=START, sentence="nothing seen") if blind else None,
    )


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_the_worst_tier_decides_and_no_question_follows_the_last_override(round_: int) -> None:
    spec = rollout()
    assert rounds_of(spec) == 3
    for a, b, c in product([0, 1], repeat=3):
        tiers = [Tier.A] * a + [Tier.B] * b + [Tier.C] * c
        step = next_step(spec, verdict(*tiers), round_=round_, rounds=3)
        if a:
            assert step is NextStep.ROLL_BACK
        elif b:
            assert step is (NextStep.ASK if round_ < 3 else NextStep.ROLL_BACK)
        else:
            assert step is NextStep.PROMOTE


@pytest.mark.parametrize("evaluation", [verdict(blind=True), None], ids=["blind", "a watch that failed"])
@pytest.mark.parametrize("on_blind", list(OnBlind))
def test_what_was_not_observed_is_never_promoted(evaluation: Evaluation | None, on_blind: OnBlind) -> None:
    spec = rollout(watch=Watch(on_blind=on_blind))
    steps = [next_step(spec, evaluation, round_=round_, rounds=2) for round_ in (1, 2)]
    first = NextStep.ROLL_BACK if on_blind is OnBlind.ROLLBACK else NextStep.ASK
    assert steps == [first, NextStep.ROLL_BACK]


def test_a_rule_without_a_commander_has_one_round() -> None:
    always = TierDecision(action=Action.AUTO_ROLLBACK)
    spec = rollout(watch=Watch(on_blind=OnBlind.ROLLBACK), decision=Decision(tier_b_breach=always))
    assert rounds_of(spec) == 1
    assert next_step(spec, verdict(Tier.B), round_=1, rounds=1) is NextStep.ROLL_BACK


def test_the_shortest_deadline_and_the_safest_silence_hold_for_several_breaches() -> None:
    asks = Action.INCIDENT_COMMANDER_DECISION
    decision = Decision(
        tier_b_breach=TierDecision(action=asks, within=timedelta(minutes=30)),
        tier_c_breach=TierDecision(action=asks, within=timedelta(minutes=5), on_timeout=OnTimeout.CONTINUE),
    )
    spec = rollout(decision=decision)
    both = review_terms(spec, verdict(Tier.B, Tier.C))
    assert (both.within, both.on_timeout) == (timedelta(minutes=5), OnTimeout.ROLLBACK)
    lenient = review_terms(spec, verdict(Tier.C))
    assert (lenient.within, lenient.on_timeout) == (timedelta(minutes=5), OnTimeout.CONTINUE)
