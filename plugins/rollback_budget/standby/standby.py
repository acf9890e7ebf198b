"""The standby: reads who watches each rollout, takes over what is lost, and lets go of what is back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.clock import Elapsed
from rollback_budget.exceptions import LedgerError, LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import batches
from rollback_budget.ledger.watch_leases import holder_of
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.model.pace import tail_of
from rollback_budget.model.watch_settings import Watch
from rollback_budget.standby.lacks import Lacks
from rollback_budget.standby.loss import Loss, LossDetector
from rollback_budget.standby.rolling_back import LeaseLostError
from rollback_budget.standby.situation import Situation, take_up
from rollback_budget.standby.takeover import Takeover
from rollback_budget.standby.tools import AT_ONCE, StandbyTools
from rollback_budget.text import plural

#: A lease holds for this long after the standby was last alive, and no longer than a watch may be lost.
LEASE = timedelta(seconds=30)
SHORTEST_LEASE = timedelta(seconds=5)
#: All rollouts are read at this interval, or more often where losses are to be noticed sooner.
SCAN_INTERVAL = timedelta(seconds=10)
SHORTEST_SCAN = timedelta(seconds=0.5)
#: What was decided about the rollouts in hand is read at this interval.
PULSE = timedelta(seconds=1)
#: A ledger that takes longer for anything is taken for away.
LONGEST_STEP_S = 60.0
#: A rollout that failed here is left alone for this long: another standby may do better.
BACK_OFF_S = 30.0
#: A standby that ends waits this long for the ledger to take its leases back.
LAST_WORDS_S = 3.0


@dataclass
class _InHand:
    """A rollout in the hands of this standby.

    :param until: until when its lease surely holds, by the monotonic clock.
    """

    takeover: Takeover
    task: asyncio.Task[None]
    until: float


class Standby:
    """Watches over the watches of all rollouts in one ledger.

    :param name: what people call it.
    :param after: how long a watch may give no sign of life; None for each rollout's default.
    :param elapsed: a monotonic clock, seconds.
    """

    def __init__(
        self,
        tools: StandbyTools,
        name: str,
        after: timedelta | None = None,
        elapsed: Elapsed = time.monotonic,
    ) -> None:
        self._tools = tools
        self._name = name
        self._elapsed = elapsed
        self._holder = holder_of(name, uuid.uuid4().hex[:8])
        self._lease = LEASE if after is None else max(min(LEASE, after), SHORTEST_LEASE)
        self._scan = SCAN_INTERVAL if after is None else max(min(SCAN_INTERVAL, after / 4), SHORTEST_SCAN)
        self._detector = LossDetector(after, elapsed)
        self._lacks = Lacks(tools, elapsed)
        self._started_at: datetime | None = None
        self._watches: dict[RolloutKey, Watch] = {}
        #: How long after their windows slow metrics are still waited for.
        self._tails: dict[RolloutKey, timedelta] = {}
        self._unreadable: set[RolloutKey] = set()
        self._in_hand: dict[RolloutKey, _InHand] = {}
        self._not_before: dict[RolloutKey, float] = {}
        self._is_cut_off = False
        self._contact_at = elapsed()
        self._failures = 0

    @property
    def in_hand(self) -> list[RolloutKey]:
        """The rollouts that this standby watches."""
        return list(self._in_hand)

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until ``stop`` is set; then give every lease back, within seconds. Never raises."""
        self._tools.log.info(
            "standby %s begins; the ledger is %s", self._name, self._tools.open_ledger().place
        )
        steps = (
            (self.renew, self._lease / 3),
            (self.scan, self._scan),
            (self.pulse, PULSE),
            (self._drop_expired, PULSE),
        )
        loops = [asyncio.ensure_future(self._forever(step, every)) for step, every in steps]
        await stop.wait()
        await _cancel(loops)
        await self.let_go()

    async def run_once(self) -> bool:
        """Look once, do what has to be done now, and give the leases back; raises LedgerError.

        There is no time to observe anything: what the ledger's clock says of a watch is believed.

        :returns: whether nothing that had to be done is left undone.
        """
        await self.renew()
        renewing = asyncio.ensure_future(self._forever(self.renew, self._lease / 3))
        await self.scan(once=True)
        await asyncio.gather(*(one.task for one in self._in_hand.values()), return_exceptions=True)
        await _cancel([renewing])
        await self.let_go()
        return not self._failures and not self._unreadable

    async def renew(self) -> None:
        """Say that this standby is alive, and renew its leases; raises LedgerError."""
        began, started_at = self._elapsed(), self._started_at or self._tools.clock.now()

        def renew(ledger: Ledger) -> tuple[datetime, set[RolloutKey]]:
            now = ledger.standbys.seen(self._name, started_at)
            return now, ledger.watch_leases.renew(self._holder, self._lease)

        try:
            now, held = await self._tools.ask_ledger(renew)
        finally:
            await self._drop_expired()
        self._on_contact()
        self._tools.clock.set(now)
        self._started_at = self._started_at or now
        for key in held & self._in_hand.keys():
            self._in_hand[key].until = began + self._lease.total_seconds()

    async def scan(self, *, once: bool = False) -> None:
        """Read the signs of life of every rollout, and take over what is lost; raises LedgerError.

        :param once: do not observe first, and do not wait for anything in a takeover.
        """
        signs = await self._tools.ask_ledger(lambda ledger: ledger.signs_of_life.expected())
        self._on_contact()
        await self._learn(one.key for one in signs)
        losses = self._detector.observe(signs, self._watches, at_once=once, tails=self._tails)
        free = {one.key for one in signs if one.lease is None or self._may_take(one)}
        expected = {one.key for one in signs}
        for key in [key for key in self._in_hand if key not in expected]:
            await self._let_go_when_done(key)
        due = [loss for loss in losses if loss.key in free and self._is_due(loss.key)]
        if not once:
            due = [loss for loss in due if not self._lacks.holds_back(loss.key)]
        # Not thousands at once: they would keep the renewals waiting.
        for some in batches(due, AT_ONCE):
            await asyncio.gather(*(self._take_over(loss, once=once) for loss in some))

    async def pulse(self) -> None:
        """Read what was decided about the rollouts in hand; raises LedgerError."""
        if not self._in_hand:
            return
        for signs in await self._tools.ask_ledger(lambda ledger: ledger.signs_of_life.held(self._holder)):
            one = self._in_hand.get(signs.key)
            if one is None:
                continue
            one.takeover.notice(signs)
            if one.takeover.airflow_is_back:
                await one.takeover.say_back()
                await self._drop(signs.key)
                await self._release(signs.key)

    async def let_go(self) -> None:
        """End every takeover, and give the leases back if the ledger answers."""
        await self._lacks.stop()
        for key in self.in_hand:
            await self._drop(key)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self._tools.ask_ledger(lambda ledger: ledger.watch_leases.release_all(self._holder))
        except (LedgerError, TimeoutError) as error:
            self._tools.log.warning("the leases run out by themselves, the ledger does not answer: %s", error)
        self._tools.log.info("standby %s ends", self._name)

    async def _forever(self, step: Callable[[], Awaitable[None]], every: timedelta) -> None:
        """Repeat a step, whatever becomes of it."""
        while True:
            began = self._elapsed()
            try:
                async with asyncio.timeout(LONGEST_STEP_S):
                    await step()
            except TimeoutError:
                self._on_cut_off(LedgerUnavailableError(f"no answer within {LONGEST_STEP_S:g} s"))
            except LedgerError as error:
                self._on_cut_off(error)
            except Exception as error:
                self._tools.log.warning("this is tried again: %s: %s", type(error).__name__, error)
            await asyncio.sleep(max(every.total_seconds() - (self._elapsed() - began), 0.05))

    def _on_cut_off(self, error: LedgerError) -> None:
        if not self._is_cut_off:
            self._tools.log.warning("cut off from the ledger, standby takes over nothing: %s", error)
        self._is_cut_off = True

    def _on_contact(self) -> None:
        now = self._elapsed()
        if self._is_cut_off:
            # Watches in Airflow were perhaps cut off, too: their looks come when the ledger is back.
            self._detector.excuse(now - self._contact_at)
            self._tools.log.info("the ledger answers again, standby goes on")
        self._is_cut_off, self._contact_at = False, now

    async def _learn(self, keys: Iterable[RolloutKey]) -> None:
        """Read how rollouts that are new here are watched, and find out what a takeover would lack."""
        wanted = set(keys)
        self._lacks.keep(wanted)
        self._watches = {key: watch for key, watch in self._watches.items() if key in wanted}
        self._tails = {key: tail for key, tail in self._tails.items() if key in wanted}
        self._unreadable &= wanted
        new = wanted - self._watches.keys() - self._unreadable
        if not new:
            return
        rollouts = await self._tools.ask_ledger(lambda ledger: ledger.rollouts.many(new))
        for rollout in rollouts:
            self._watches[rollout.key] = rollout.spec.watch
            if rollout.window_end is not None and (tail := tail_of(rollout.spec, rollout.window_end)):
                self._tails[rollout.key] = tail
        self._lacks.learn(rollouts)
        self._unreadable |= new - self._watches.keys()
        for key in new & self._unreadable:
            self._tools.log.warning(
                "%s: its budget cannot be read here, and standby cannot take it over", key
            )

    def _may_take(self, signs: WatchSigns) -> bool:
        lease = signs.lease
        return lease is None or not lease.is_valid or lease.holder == self._holder

    def _is_due(self, key: RolloutKey) -> bool:
        return key not in self._in_hand and self._elapsed() >= self._not_before.get(key, 0.0)

    async def _take_over(self, loss: Loss, *, once: bool) -> None:
        """Take the lease and begin; a rollout that cannot be taken over stops no other one."""
        began, key = self._elapsed(), loss.key

        def take(ledger: Ledger) -> Situation | None:
            if ledger.watch_leases.take(key, self._holder, self._lease) is None:
                return None
            return take_up(ledger, key)

        try:
            situation = await self._tools.ask_ledger(take)
        except LedgerError as error:
            self._tools.log.warning("%s cannot be taken over: %s", key, error)
            self._failures += 1
            self._not_before[key] = self._elapsed() + BACK_OFF_S
            return
        if situation is None:
            return
        until = began + self._lease.total_seconds()
        if self._elapsed() >= until:
            # The process stood still, or the ledger was slow: another standby may have it by now.
            self._tools.log.warning("%s: its lease ran out before the takeover began", key)
            self._failures += 1
            await self._release(key)
            return
        takeover = Takeover(self._tools, situation, loss, self._holder, once=once)
        self._in_hand[key] = _InHand(takeover, asyncio.ensure_future(self._run(takeover, key)), until)

    async def _run(self, takeover: Takeover, key: RolloutKey) -> None:
        try:
            await takeover.run()
            self._failures += takeover.is_undone
        except LeaseLostError as error:
            takeover.log.warning("standby does nothing more here: %s", error)
        except Exception:
            self._failures += 1
            takeover.log.exception("standby failed here, and tries again in %g s", BACK_OFF_S)
            self._not_before[key] = self._elapsed() + BACK_OFF_S
        self._in_hand.pop(key, None)
        await self._release(key)

    async def _release(self, key: RolloutKey) -> None:
        with suppress(LedgerError):
            await self._tools.ask_ledger(lambda ledger: ledger.watch_leases.release(key, self._holder))

    async def _drop_expired(self) -> None:
        """End the takeovers whose lease may have run out: another standby may have them by now."""
        now = self._elapsed()
        expired = [key for key, one in self._in_hand.items() if now >= one.until]
        for key in expired:
            await self._drop(key)
        if expired:
            self._tools.log.warning(
                "standby has lost touch with the ledger, and lets go of %s", plural(len(expired), "rollout")
            )

    async def _let_go_when_done(self, key: RolloutKey) -> None:
        """Let go of a rollout for which nothing is expected any more, unless its end is being written."""
        one = self._in_hand[key]
        if one.takeover.is_idle:
            await self._drop(key)
            await self._release(key)

    async def _drop(self, key: RolloutKey) -> None:
        one = self._in_hand.pop(key, None)
        if one is not None:
            await _cancel([one.task])


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End tasks, and wait until they have."""
    cancelled = [task for task in tasks if task.cancel()]
    if cancelled:
        await asyncio.wait(cancelled)
