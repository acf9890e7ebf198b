"""A control plane in memory, that can refuse, lose an answer or be changed by another user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import Any

from rollback_budget.exceptions import TargetError
from rollback_budget.model.target import HttpRead, HttpTarget, HttpWrite
from rollback_budget.targets.base import Serving

TARGET = HttpTarget(
    conn_id="router",
    read=HttpRead(path="/"),
    write=HttpWrite(path="/"),
    deadline=timedelta(seconds=5),
    request_timeout=timedelta(seconds=2),
)


@dataclass
class ControlPlane:
    """Who serves, and every change that was accepted.

    :param refuses: how many requests are still refused; a negative number refuses for ever.
    :param before_write: called inside each write, before it lands.
    """

    shares: dict[str, float]
    refuses: int = 0
    before_write: Callable[[str], Any] = lambda _key: None
    accepted: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def read(self) -> Serving:
        return Serving(dict(self.shares))

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        return ()

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        self.before_write(idempotency_key)
        if self.refuses:
            self.refuses -= 1
            raise TargetError("503")
        with self._lock:
            if idempotency_key not in [key for key, _ in self.accepted]:
                self.accepted.append((idempotency_key, dict(shares)))
            self.shares = dict(shares)
