"""Changing who serves, and proving it: once, within a deadline, never over a newer change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum

from rollback_budget.exceptions import TargetError
from rollback_budget.targets.base import NOTHING, Serving, Target
from rollback_budget.targets.traffic import ObserveTraffic, Recovery, Traffic

__all__ = [
    "SEND_AGAIN_AFTER",
    "ChangeReport",
    "DeadlineClock",
    "ObserveTraffic",
    "Outcome",
    "Recovery",
    "Traffic",
    "TrafficChange",
    "TrafficRequest",
    "change_traffic",
    "request_traffic",
]

#: A change that another process got accepted is sent once more when nothing of it is seen for so long.
SEND_AGAIN_AFTER = timedelta(seconds=15)


class Outcome(StrEnum):
    """How a change of traffic ended."""

    EFFECTIVE = "effective"
    ACCEPTED_NOT_EFFECTIVE = "accepted_not_effective"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def next_step(self) -> str:
        """What the operator does about it."""
        return _NEXT_STEPS[self]


_NEXT_STEPS = {
    Outcome.EFFECTIVE: "Nothing is left to do but to find out why.",
    Outcome.ACCEPTED_NOT_EFFECTIVE: (
        "Look at what really serves: at the controller behind the control plane, at its caches, and at the"
        " metrics, in which probes and mirrored traffic may count as requests of the release. Clear the"
        " rollback task to verify once more."
    ),
    Outcome.FAILED: "Move the traffic by hand now, then clear the rollback task to have it verified.",
    Outcome.SUPERSEDED: (
        "Ask the user who changed the traffic; where the release still serves, decide with them and roll"
        " back."
    ),
}


@dataclass(frozen=True)
class DeadlineClock:
    """The one place that waits; tests replace it."""

    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class TrafficChange:
    """What to change, and what is known of the state before.

    :param shares: the fraction of traffic each version shall get.
    :param before: the shares that this rollout may have left behind; anything else but ``shares`` is
        another user's newer change. None when not known: then any state may be changed.
    :param idempotency_key: the same for every try.
    :param deadline: time from the start until the change must be verified.
    :param send: False when another task has asked for it already, and it is only verified.
    :param accepted_at: when another process asked for it and the control plane accepted: then it is sent
        again only when nothing of it is seen. None when nobody did.
    :param asked: whether another process may have asked for it, whatever came of that: traffic on its way to
        ``shares`` is then this change, and not another client's.
    """

    shares: Mapping[str, float]
    before: Sequence[Mapping[str, float]] | None
    idempotency_key: str
    deadline: timedelta
    send: bool = True
    accepted_at: datetime | None = None
    asked: bool = False


@dataclass(frozen=True)
class ChangeReport:
    """What came of a change.

    :param requested_at: when the control plane was first asked to change; None when it already served so.
    :param verified_at: when control plane and data plane were first seen to agree; None when they were not.
    :param control_plane: what the control plane said last.
    :param data_plane: what the traffic said last, or why it cannot be known.
    :param serving: who serves, as it was read last; None when it never could be.
    """

    outcome: Outcome
    requested_at: datetime | None
    verified_at: datetime | None
    control_plane: str
    data_plane: str
    detail: str
    serving: Serving | None = None

    def __str__(self) -> str:
        planes = f"Control plane: {self.control_plane}. Data plane: {self.data_plane}."
        return f"{self.outcome.value}: {self.detail} {planes}"


@dataclass(frozen=True)
class TrafficRequest:
    """What came of asking for a change that is verified later.

    :param requested_at: when the control plane was first asked; None when it already served so, or could not
        be asked.
    :param accepted: whether it accepted the change, or already served so.
    :param superseded: whether another client's newer change was found, and kept.
    :param control_plane: what the control plane said last.
    :param problem: why nothing was accepted; empty when there is none.
    """

    requested_at: datetime | None
    accepted: bool
    superseded: bool
    control_plane: str
    problem: str = ""


class _State(Enum):
    """How far a change has come on the control plane."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    HELD = "held"
    SUPERSEDED = "superseded"


def change_traffic(
    target: Target,
    change: TrafficChange,
    *,
    observe: ObserveTraffic | None = None,
    clock: DeadlineClock | None = None,
    poll: timedelta = timedelta(seconds=1),
    log: Callable[[str], None] = lambda _line: None,
) -> ChangeReport:
    """Bring the target to ``change.shares`` and verify it, within the deadline.

    Runs again safely: what already holds is only verified, and what another user changed stays.

    :param observe: asks the data plane; None when nothing counts requests.
    :param poll: pause between looks at the target.
    """
    return _Attempt(target, change, observe, clock or DeadlineClock(), poll, log).run()


def request_traffic(
    target: Target,
    change: TrafficChange,
    *,
    within: timedelta,
    clock: DeadlineClock | None = None,
    poll: timedelta = timedelta(milliseconds=500),
    log: Callable[[str], None] = lambda _line: None,
) -> TrafficRequest:
    """Ask the target for ``change.shares``, and leave the verification to :func:`change_traffic`.

    Safe to run again, and by two processes at once: what already holds is not asked for, and what another
    user changed stays.

    :param within: for how long a target that does not accept is asked again; the change's deadline is not
        looked at.
    :param poll: pause between two tries.
    """
    return _Attempt(target, change, None, clock or DeadlineClock(), poll, log).request(within)


def _lies_between(serving: Serving, before: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    """Whether a controller that moves traffic step by step passes through such shares."""
    for version in serving.shares.keys() | before.keys() | wanted.keys():
        low, high = sorted((before.get(version, 0.0), wanted.get(version, 0.0)))
        if not low - NOTHING <= serving.share(version) <= high + NOTHING:
            return False
    return True


class _Attempt:
    """One run of :func:`change_traffic`; holds what was seen so far."""

    def __init__(
        self,
        target: Target,
        change: TrafficChange,
        observe: ObserveTraffic | None,
        clock: DeadlineClock,
        poll: timedelta,
        log: Callable[[str], None],
    ) -> None:
        self._target = target
        self._change = change
        self._observe = observe
        self._clock = clock
        self._poll = poll
        self._log = log
        self._requested_at = change.accepted_at if change.send else self._clock.now()
        self._accepted = self._requested_at is not None
        #: From when on one that was accepted elsewhere, and of which nothing is seen, is sent again.
        self._send_again_at = (
            self._clock.now() + SEND_AGAIN_AFTER if change.send and change.accepted_at is not None else None
        )
        #: Whether what lies on the way to the wanted shares may be this change.
        self._may_be_under_way = self._accepted or change.asked
        self._held_since: datetime | None = None
        self._serving: Serving | None = None
        self._traffic: Traffic | None = None
        self._last_problem = ""

    def run(self) -> ChangeReport:
        give_up = self._clock.now() + self._change.deadline
        while True:
            report = self._step()
            if report is not None:
                return report
            if self._clock.now() >= give_up:
                return self._late()
            self._clock.sleep(self._poll.total_seconds())

    def request(self, within: timedelta) -> TrafficRequest:
        """Ask until the control plane has accepted; see :func:`request_traffic`."""
        give_up = self._clock.now() + within
        while (state := self._ask()) is _State.PENDING and self._clock.now() < give_up:
            self._clock.sleep(self._poll.total_seconds())
        return TrafficRequest(
            requested_at=self._requested_at,
            accepted=state in (_State.ACCEPTED, _State.HELD),
            superseded=state is _State.SUPERSEDED,
            control_plane=self._control_plane(),
            problem=self._last_problem if state is _State.PENDING else "",
        )

    def _step(self) -> ChangeReport | None:
        state = self._ask()
        if state is _State.HELD:
            self._held_since = self._held_since or self._requested_at or self._clock.now()
            return self._verify()
        if state is _State.SUPERSEDED:
            return self._report(
                Outcome.SUPERSEDED,
                "someone changed the traffic after this rollout did; their change was left as it is.",
            )
        return None

    def _ask(self) -> _State:
        """Look who serves, and ask for the change unless it was accepted."""
        try:
            serving = self._target.read()
        except TargetError as error:
            self._note(f"reading failed: {error}")
            return _State.PENDING
        self._serving = serving
        if serving.same_shares(self._change.shares):
            return _State.HELD
        if self._is_newer(serving):
            return _State.SUPERSEDED
        if not self._accepted or self._is_lost(serving):
            self._apply(serving)
        return _State.ACCEPTED if self._accepted else _State.PENDING

    def _is_lost(self, serving: Serving) -> bool:
        """Whether nothing is seen of what another process got accepted: something came after it."""
        if self._send_again_at is None or self._clock.now() < self._send_again_at:
            return False
        if not any(serving.same_shares(left) for left in self._change.before or ()):
            return False
        self._send_again_at = None
        return True

    def _is_newer(self, serving: Serving) -> bool:
        """Another user's change: not what we left nor, where ours may have taken effect, on the way to it."""
        before = self._change.before
        if before is None or any(serving.same_shares(left) for left in before):
            return False
        wanted = self._change.shares
        return not (self._may_be_under_way and any(_lies_between(serving, left, wanted) for left in before))

    def _apply(self, serving: Serving) -> None:
        self._requested_at = self._requested_at or self._clock.now()
        try:
            self._target.apply(
                self._change.shares, expected=serving, idempotency_key=self._change.idempotency_key
            )
        except TargetError as error:
            self._may_be_under_way |= error.accepted is None
            self._note(f"the change was not accepted: {error}")
            return
        self._accepted = self._may_be_under_way = True
        self._log(f"the control plane accepted {self._wanted()}")

    def _verify(self) -> ChangeReport | None:
        assert self._held_since is not None
        if self._observe is None:
            return self._report(Outcome.EFFECTIVE, f"the control plane serves {self._wanted()}.")
        traffic = self._traffic = self._observe(self._held_since)
        if not traffic.is_drained:
            return None
        recovery = traffic.recovery
        if recovery is not None and not recovery.good and recovery.knowable:
            return None
        return self._report(Outcome.EFFECTIVE, self._proof(traffic))

    def _proof(self, traffic: Traffic) -> str:
        """Say what is proven, and what is not."""
        if traffic.knowable:
            proof = f"control plane and traffic agree on {self._wanted()}"
        else:
            proof = f"the control plane serves {self._wanted()}; the traffic was not checked"
        recovery = traffic.recovery
        if recovery is None:
            return f"{proof}."
        if recovery.good:
            return f"{proof}, and the breached metric recovers."
        return f"{proof}. Whether the breached metric recovers cannot be known."

    def _late(self) -> ChangeReport:
        within = f"within {self._change.deadline.total_seconds():g} s"
        if self._held_since is not None:
            return self._late_but_held(within)
        if self._accepted:
            return self._report(
                Outcome.ACCEPTED_NOT_EFFECTIVE,
                f"the control plane accepted {self._wanted()}, but did not serve it {within}.",
            )
        return self._report(Outcome.FAILED, f"no change was accepted {within}; {self._last_problem}.")

    def _late_but_held(self, within: str) -> ChangeReport:
        traffic = self._traffic
        recovery = None if traffic is None else traffic.recovery
        if traffic is None or not traffic.is_drained or recovery is None:
            return self._report(
                Outcome.ACCEPTED_NOT_EFFECTIVE,
                f"the control plane says {self._wanted()}, but the traffic did not prove it {within}.",
            )
        if recovery.good is None:
            return self._report(Outcome.EFFECTIVE, self._proof(traffic))
        return self._report(
            Outcome.ACCEPTED_NOT_EFFECTIVE,
            f"{self._wanted()} serves, but the breached metric did not recover {within}:"
            " the release may not be what is wrong.",
        )

    def _report(self, outcome: Outcome, detail: str) -> ChangeReport:
        return ChangeReport(
            outcome=outcome,
            requested_at=self._requested_at,
            verified_at=self._clock.now() if outcome is Outcome.EFFECTIVE else None,
            control_plane=self._control_plane(),
            data_plane=self._data(),
            detail=detail,
            serving=self._serving,
        )

    def _control_plane(self) -> str:
        return "not read" if self._serving is None else str(self._serving)

    def _data(self) -> str:
        if self._observe is None:
            return "cannot be known: no source counts requests"
        if self._traffic is None:
            return "not asked"
        recovery = self._traffic.recovery
        return self._traffic.said if recovery is None else f"{self._traffic.said}; {recovery.said}"

    def _wanted(self) -> str:
        return str(Serving({name: share for name, share in self._change.shares.items() if share > NOTHING}))

    def _note(self, problem: str) -> None:
        if problem != self._last_problem:
            self._log(problem)
        self._last_problem = problem
