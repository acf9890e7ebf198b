"""Who serves: the simulated router's declared and applied traffic weights, and the faults it can be given."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ControlFault(StrEnum):
    """What is wrong with the control plane.

    ``accept_only`` answers 200 and changes nothing; ``control_only`` declares the new weights while traffic
    keeps flowing by the old ones; ``lose_reply`` applies a change and hangs up without an answer; ``hang``
    keeps every request waiting, so a change that the client gave up takes effect when the fault is cleared.
    """

    OK = "ok"
    ERROR_500 = "error500"
    HANG = "hang"
    ACCEPT_ONLY = "accept_only"
    CONTROL_ONLY = "control_only"
    LOSE_REPLY = "lose_reply"


@dataclass(frozen=True)
class Answer:
    """An HTTP status and its JSON body."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One accepted request to change the traffic.

    :param at: when it was accepted, in epoch seconds.
    :param applied: False when a fault kept it from the traffic.
    """

    at: float
    weights: Mapping[str, float]
    revision: str
    idempotency_key: str | None
    changed_by: str | None
    applied: bool


class Router:
    """Traffic weights with a revision; safe to use from several threads.

    :param weights: share of traffic per known version, on any scale.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._lock = threading.Lock()
        self._declared = dict(weights)
        self._applied = dict(weights)
        self._revision = 1
        self._changed_by: str | None = None
        self._first_answers: dict[str, Answer] = {}
        self._changes: list[Change] = []
        self.fault = ControlFault.OK

    @property
    def applied(self) -> dict[str, float]:
        """The weights that traffic really follows."""
        with self._lock:
            return dict(self._applied)

    @property
    def changes(self) -> list[Change]:
        """Every accepted change, oldest first."""
        with self._lock:
            return list(self._changes)

    def read(self) -> Answer:
        """Return the declared weights."""
        with self._lock:
            return Answer(200, self._state())

    def change(
        self,
        weights: object,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
        changed_by: str | None = None,
    ) -> Answer:
        """Set the weights: 200 and the new state, 412 when ``if_match`` is stale, 422 for nonsense.

        A known ``idempotency_key`` gets the answer of its first accepted request and changes nothing.
        """
        with self._lock:
            if idempotency_key is not None and idempotency_key in self._first_answers:
                return self._first_answers[idempotency_key]
            problem = self._problem_of(weights)
            if problem is not None:
                return Answer(422, {"error": problem})
            if if_match is not None and if_match.strip('" ') != str(self._revision):
                return Answer(
                    412, {"error": f"revision is {self._revision}, not {if_match}", **self._state()}
                )
            assert isinstance(weights, Mapping)
            answer = self._accept(weights, idempotency_key, changed_by)
            if idempotency_key is not None:
                self._first_answers[idempotency_key] = answer
            return answer

    def _state(self) -> dict[str, Any]:
        return {
            "weights": dict(self._declared),
            "revision": str(self._revision),
            "changed_by": self._changed_by,
        }

    def _problem_of(self, weights: object) -> str | None:
        if not isinstance(weights, Mapping) or not weights:
            return "weights must be an object of version -> share"
        unknown = sorted(set(weights) - set(self._declared))
        if unknown:
            return f"unknown versions {unknown}; known are {sorted(self._declared)}"
        if any(isinstance(share, bool) or not isinstance(share, int | float) for share in weights.values()):
            return "every share must be a number"
        if any(not math.isfinite(share) or share < 0 for share in weights.values()) or not any(
            weights.values()
        ):
            return "shares must be finite, not negative, and not all zero"
        return None

    def _accept(
        self, weights: Mapping[str, float], idempotency_key: str | None, changed_by: str | None
    ) -> Answer:
        wanted = {version: float(weights.get(version, 0)) for version in self._declared}
        declares = self.fault is not ControlFault.ACCEPT_ONLY
        applies = declares and self.fault is not ControlFault.CONTROL_ONLY
        if declares:
            self._declared = wanted
            self._revision += 1
            self._changed_by = changed_by
        if applies:
            self._applied = wanted
        self._changes.append(
            Change(time.time(), wanted, str(self._revision), idempotency_key, changed_by, applies)
        )
        return Answer(200, {**self._state(), "weights": wanted})
