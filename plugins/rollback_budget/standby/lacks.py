"""What a standby lacks for rollouts that it may have to take over: connections that cannot be found here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from rollback_budget.clock import Elapsed
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Rollout
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.standby.daemon_thread import in_daemon_thread
from rollback_budget.standby.tools import StandbyTools

#: What was lacking is looked for again after this time.
AGAIN_S = 60.0
#: A standby that lacks something leaves a lost watch to others for so long.
HOLD_BACK_S = 60.0


class Lacks:
    """Finds out, beside everything else, what is lacking here for each rollout, and says so once.

    :param elapsed: a monotonic clock, seconds.
    """

    def __init__(self, tools: StandbyTools, elapsed: Elapsed = time.monotonic) -> None:
        self._tools = tools
        self._elapsed = elapsed
        self._slots = asyncio.Semaphore(1)
        self._due: dict[RolloutKey, tuple[RolloutSpec, float]] = {}
        self._lacking: dict[RolloutKey, list[str]] = {}
        self._held_back: dict[RolloutKey, float] = {}
        self._task: asyncio.Task[None] | None = None

    def learn(self, rollouts: Iterable[Rollout]) -> None:
        """Take notice of further rollouts."""
        self._due |= {rollout.key: (rollout.spec, 0.0) for rollout in rollouts}
        self._begin()

    def keep(self, keys: Iterable[RolloutKey]) -> None:
        """Forget all other rollouts, and look for what is due."""
        wanted = set(keys)
        self._due = {key: due for key, due in self._due.items() if key in wanted}
        self._lacking = {key: found for key, found in self._lacking.items() if key in wanted}
        self._held_back = {key: since for key, since in self._held_back.items() if key in wanted}
        self._begin()

    def holds_back(self, key: RolloutKey) -> bool:
        """Say whether a lost watch is to be left to standbys that lack nothing; no longer than a while."""
        if key not in self._lacking:
            return False
        now = self._elapsed()
        return now - self._held_back.setdefault(key, now) < HOLD_BACK_S

    async def stop(self) -> None:
        """End; what is being looked for is dropped."""
        if self._task is not None and self._task.cancel():
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        due = [(key, spec) for key, (spec, at) in self._due.items() if at <= self._elapsed()]
        for key, spec in due:
            found = await self._lacking_for(spec)
            if key not in self._due:
                continue
            if found != self._lacking.get(key, []):
                for problem in found:
                    self._tools.log.warning("%s: a takeover would fail here: %s", key, problem)
                if not found:
                    self._tools.log.info("%s: nothing is lacking for a takeover any more", key)
            if found:
                self._lacking[key] = found
                self._due[key] = (spec, self._elapsed() + AGAIN_S)
            else:
                self._lacking.pop(key, None)
                del self._due[key]

    async def _lacking_for(self, spec: RolloutSpec) -> list[str]:
        try:
            return await in_daemon_thread(partial(self._tools.problems, spec), self._slots)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
