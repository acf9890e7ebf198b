"""Every order of what may happen to a rollout: the same answer as the rule, always.

A search through all states that up to five events reach, over the real tasks, wiring and ledger of a
rollout (see :mod:`tests.operators.scenarios`); equal states are followed once. After the last event it is
played to its end: no answer comes, and nothing more is seen.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from rollback_budget.common.commander_response import Choice
from rollback_budget.hooks import traffic_target as control_plane
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.budget import Comparison, Tier, Worse
from rollback_budget.model.decision import Action, Decision, OnTimeout, TierDecision
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.model.watch_settings import OnBlind, Watch
from rollback_budget.targets import apply as change
from tests.engine.builders import budget, rollout
from tests.operators.scenarios import COMMANDER, FastClock, SimulatedRollout

pytestmark = [pytest.mark.airflow, pytest.mark.database]

DEPTH = 5
REASON = "a known spike, it is over"
INCIDENTS = budget(
    "incidents", Comparison.INCREASE, 0.0, minutes=0, area="safety", worse=Worse.HIGHER, tier=Tier.A
)
TARGET = HttpTarget(
    conn_id="router",
    read=HttpRead(path="/"),
    write=HttpWrite(path="/"),
    deadline=timedelta(seconds=5),
)

#: What may happen, by name: whether it can now, and what it does.
Event = tuple[Callable[[SimulatedRollout], bool], Callable[[SimulatedRollout], None]]


def watched(act: Callable[[SimulatedRollout, int], None]) -> Event:
    """An event that the newest watch sees."""
    return lambda sim: bool(sim.waiting("watch")), lambda sim: act(sim, sim.waiting("watch")[-1])


def asked(act: Callable[[SimulatedRollout, int], None]) -> Event:
    """An event of an open review."""
    return lambda sim: bool(sim.waiting("review")), lambda sim: act(sim, sim.waiting("review")[-1])


def see_tier_a(sim: SimulatedRollout) -> None:
    evaluation = sim.breach(Tier.A)
    for kind in ("guard", "watch"):
        for round_ in sim.waiting(kind):
            sim.see(evaluation, kind, round_)
            sim.breached = sorted(set(sim.breached))


def race_to_promote(sim: SimulatedRollout, round_: int) -> None:
    """Both come before any task runs; whichever is first in the ledger holds, and the other does nothing."""
    sim.answer(round_, Choice.PROMOTE, reason=REASON)
    evaluation = sim.breach(Tier.A)
    sim.see(evaluation, "guard", round_)
    sim.late += [(breach.budget, breach.breached_at) for breach in evaluation.breaches]


def fail_watch(sim: SimulatedRollout, round_: int) -> None:
    sim.states[f"round_{round_}.watch"] = "failed"


EVENTS: dict[str, Event] = {
    "tier A": (
        lambda sim: bool(sim.waiting("watch") or sim.waiting("guard")),
        see_tier_a,
    ),
    "tier B": (
        lambda sim: bool(sim.waiting("watch")) and not sim.is_suspended,
        lambda sim: sim.see(sim.breach(Tier.B), "watch", sim.waiting("watch")[-1]),
    ),
    "suspend": (
        lambda sim: not sim.is_suspended and not sim.has_ended,
        lambda sim: sim.suspend(),
    ),
    "recovery": asked(lambda _night, _round: None),
    "blind": watched(lambda sim, round_: sim.see(sim.blind(), "watch", round_)),
    "window end": watched(lambda sim, round_: sim.see(sim.healthy(), "watch", round_)),
    "watch fails": watched(fail_watch),
    "go on": asked(lambda sim, round_: sim.answer(round_, Choice.GO_ON, reason=REASON)),
    "go on, muted": asked(lambda sim, round_: sim.answer(round_, Choice.GO_ON, reason=REASON, mute=True)),
    "go on, no reason": asked(lambda sim, round_: sim.answer(round_, Choice.GO_ON)),
    "roll back": asked(lambda sim, round_: sim.answer(round_, Choice.ROLL_BACK)),
    "promote now": asked(lambda sim, round_: sim.answer(round_, Choice.PROMOTE, reason=REASON)),
    "tier A just as they promote": (
        lambda sim: bool(sim.waiting("review")) and sim.waiting("guard")[-1:] == sim.waiting("review"),
        lambda sim: race_to_promote(sim, sim.waiting("review")[-1]),
    ),
    "silence": asked(lambda sim, round_: be_silent(sim, round_)),
    # No task notices before a rollback is asked for, so as a first event it stands for every later moment.
    "rollback fails": (
        lambda sim: sim.minute == 0,
        lambda sim: setattr(sim.plane, "works", False),
    ),
    "cleared": (lambda sim: sim.has_ended, lambda sim: sim.clear()),
    "window ends for the guard": (
        lambda sim: bool(sim.waiting("guard")),
        lambda sim: sim.see(sim.healthy(), "guard", sim.waiting("guard")[-1]),
    ),
    # What triggers do by themselves, sooner or later.
    "guard ends": (
        lambda sim: any(sim.review_is_over(round_) for round_ in sim.waiting("guard")),
        lambda sim: sim.see(None, "guard", sim.waiting("guard")[-1]),
    ),
    "overtaken watch ends": (
        lambda sim: bool(sim.waiting("watch")) and sim.final is not None,
        lambda sim: sim.see(None, "watch", sim.waiting("watch")[-1]),
    ),
    "overtaken review closes": (
        lambda sim: bool(sim.waiting("review")) and sim.final is not None,
        lambda sim: sim.close_review(sim.waiting("review")[-1]),
    ),
}
BY_THEMSELVES = {"guard ends", "overtaken watch ends", "overtaken review closes"}
#: What multiplies the states without leading anywhere else; tried in shorter nights.
FURTHER = {"watch fails", "go on, muted", "go on, no reason", "window ends for the guard", "cleared"}


def be_silent(sim: SimulatedRollout, round_: int) -> None:
    on_timeout = sim.spec.decision.tier_b_breach.on_timeout
    sim.answer(round_, Choice.ROLL_BACK if on_timeout is OnTimeout.ROLLBACK else Choice.GO_ON, by=None)


def play(sim: SimulatedRollout, name: str) -> None:
    sim.minute += 1
    EVENTS[name][1](sim)
    sim.settle()
    check(sim)


def play_to_the_end(sim: SimulatedRollout, known: Container[str], how: list[str]) -> None:
    """Let the night end by itself, or until it is as one was whose end is ``known``; note in ``how``."""
    while not sim.has_ended:
        if how and sim.fingerprint() in known:
            return
        name = next(
            name
            for name in (
                "overtaken review closes",
                "guard ends",
                "overtaken watch ends",
                "silence",
                "window end",
                "no more to guard",
            )
            if (EVENTS[name][0](sim) if name in EVENTS else sim.waiting("guard"))
        )
        how.append(name)
        assert len(how) < 20, "this night never ends"
        if name in EVENTS:
            play(sim, name)
        else:
            sim.see(None, "guard", sim.waiting("guard")[-1])
            sim.settle()
    check_end(sim)


def check(sim: SimulatedRollout) -> None:
    """What holds at every moment."""
    final, release = sim.final, sim.spec.release
    kinds = [key.rsplit("/", 1)[1] for key, _ in sim.plane.accepted]
    assert len(kinds) == len(set(kinds)), f"done twice: {kinds}"
    assert len({"rollback", "promote"} & set(kinds)) <= 1
    if sim.plane.shares.get(release) == 1:
        assert final is not None
        assert final.decision is FinalDecision.PROMOTED
    answers = sim.decisions
    for answer in answers:
        assert answer.by is not None or answer.timed_out
        assert answer.by in (COMMANDER, "the rule", None)
    if final is None:
        return
    assert final.by
    assert final.reason
    if final.decision is FinalDecision.PROMOTED:
        check_promotion(sim, final.by)
    elif final.by == COMMANDER:
        assert any(one.by == COMMANDER and one.option == Choice.ROLL_BACK for one in answers)
    elif final.by == "the deadline":
        assert any(one.timed_out for one in answers)
    else:
        assert final.by == "the rule"


def check_promotion(sim: SimulatedRollout, by: str) -> None:
    """Every breach has an answer that lets it be, and none promotes but a commander or the window's end."""
    answers = {answer.round: answer for answer in sim.decisions}
    lenient = sim.spec.decision.tier_b_breach.on_timeout is OnTimeout.CONTINUE
    for said in sim.ledger.evaluations.of(sim.key):
        if said.evaluation.verdict == "healthy" or sim.came_after_the_end(said.evaluation):
            continue
        assert said.kind == "watch", "promoted after a breach that the guard had found"
        assert all(breach.tier is not Tier.A for breach in said.evaluation.breaches)
        answer = answers[said.round]
        assert answer.option in (Choice.GO_ON, Choice.PROMOTE)
        assert answer.by == COMMANDER or (lenient and answer.timed_out)
    promotions = [answer for answer in answers.values() if answer.option == Choice.PROMOTE]
    assert by == (COMMANDER if promotions else "the rule")


def check_end(sim: SimulatedRollout) -> None:
    """What holds when all is over."""
    logged = [(one.breach.budget, one.breach.breached_at) for one in sim.ledger.breaches.of(sim.key)]
    assert sorted(logged) == sorted(set(sim.breached)), "every breach once"
    final = sim.final
    assert final is not None
    rolled_back = final.decision is FinalDecision.ROLLED_BACK
    if sim.plane.works:
        assert sim.plane.shares.get(sim.spec.release, 0.0) == (0.0 if rolled_back else 1.0)
    elif rolled_back or sim.states["promote"] != "skipped":
        assert "failed" in sim.states.values(), "what was not done is loud"


class Search:
    """All states that ``depth`` events reach; each is left by every event that can happen there."""

    def __init__(self, sim: SimulatedRollout, without: Container[str] = ()) -> None:
        self.sim = sim
        self.events = {name: event for name, event in EVENTS.items() if name not in without}
        self.seen: dict[str, int] = {}

    def follow(self, depth: int, path: tuple[str, ...] = ()) -> None:
        key = self.sim.fingerprint()
        if self.seen.get(key, -1) >= depth:
            return
        is_new = key not in self.seen
        here = self.sim.remember()
        to_the_end: list[str] = []
        try:
            if is_new:
                play_to_the_end(self.sim, self.seen, to_the_end)
                self.sim.go_back(here)
            self.seen[key] = depth
            for name, (can_happen, _) in self.events.items():
                left = depth if name in BY_THEMSELVES else depth - 1
                if left < 0 or not can_happen(self.sim):
                    continue
                play(self.sim, name)
                self.follow(left, (*path, name))
                self.sim.go_back(here)
        except AssertionError as error:
            if not getattr(error, "path", None):
                error.path = path  # type: ignore[attr-defined]
                error.add_note(f"after {' → '.join([*path, *to_the_end])}")
            raise


@pytest.fixture
def night_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimulatedRollout]]:
    """Make nights whose ledgers are in memory where the system has a place for that."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS",
        SimpleNamespace(send=lambda **_message: None),
        raising=False,
    )
    monkeypatch.setattr(change, "DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.verify.DeadlineClock", FastClock)
    monkeypatch.setattr("rollback_budget.rollback.request.DeadlineClock", lambda _now: FastClock())
    was_configured, before = structlog.is_configured(), structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def make(spec: RolloutSpec, *, backwards: bool = False, acts: int = 1) -> SimulatedRollout:
        file = folder / "ledger.db"
        monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN", f"sqlite:///{file}")
        sim = SimulatedRollout(spec, file, backwards=backwards, acts=acts)
        monkeypatch.setattr(control_plane, "open_target", lambda _spec: sim.plane)
        monkeypatch.setattr(control_plane, "open_target_in_time", lambda _spec, _most: nullcontext(sim.plane))
        sim.settle()
        return sim

    yield make
    structlog.reset_defaults()
    if was_configured:
        # Airflow's: without it, later tests of this process would find debug lines in what commands print.
        structlog.configure(**before)
    shutil.rmtree(folder)


def rollout_spec(on_timeout: OnTimeout = OnTimeout.ROLLBACK, **more: Any) -> RolloutSpec:
    asks = TierDecision(
        action=Action.INCIDENT_COMMANDER_DECISION, within=timedelta(minutes=15), on_timeout=on_timeout
    )
    return rollout(budget(), INCIDENTS, decision=Decision(tier_b_breach=asks), target=TARGET, **more)


def test_the_same_answer_as_the_rule_whatever_happens_in_whatever_order(
    night_of: Callable[..., SimulatedRollout],
) -> None:
    search = Search(night_of(rollout_spec()), without=FURTHER)
    search.follow(DEPTH)
    assert len(search.seen) > 500


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        (rollout_spec(), {"backwards": True}),
        (rollout_spec(OnTimeout.CONTINUE), {}),
        (rollout_spec(watch=Watch(on_blind=OnBlind.ROLLBACK)), {}),
        (rollout_spec(), {"acts": 0}),
        (rollout_spec(), {"acts": 2}),
    ],
    ids=[
        "tasks in the opposite order",
        "silence goes on",
        "blindness rolls back",
        "triggers that do nothing before their tasks",
        "triggers that do everything twice",
    ],
)
def test_failed_watches_cleared_runs_and_other_rules_lead_nowhere_else(
    night_of: Callable[..., SimulatedRollout], spec: RolloutSpec, more: dict[str, Any]
) -> None:
    search = Search(night_of(spec, **more))
    search.follow(DEPTH - 3)
    assert len(search.seen) > 30
