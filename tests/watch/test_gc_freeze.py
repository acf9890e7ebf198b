"""What thousands of watches hold is set aside from the garbage collector, and still freed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from rollback_budget.watch.gc_freeze import GcFreeze
from tests.engine.builders import at, rollout
from tests.support.simulated_watch import WATCH, Backend, SimulatedWatch, slow_from

pytestmark = pytest.mark.pure


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.usefixtures("collector_off")
def test_a_watch_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    simulation = SimulatedWatch(rollout(watch=WATCH), Backend(slow_from(600), down=(200, 300)))

    async def watch() -> weakref.ref[object]:
        watcher = simulation.watcher()
        for minute in range(1, 400):
            simulation.now = at(minute)
            await watcher.look()
        return weakref.ref(watcher)

    assert asyncio.run(watch())() is None


@pytest.mark.usefixtures("collector_off")
def test_what_is_alive_is_set_aside_with_every_so_many_watches_and_not_before() -> None:
    freeze = GcFreeze(every=3)
    kept = [[number] for number in range(1000)]
    before = gc.get_freeze_count()
    freeze.count_watch()
    freeze.count_watch()
    assert gc.get_freeze_count() == before
    freeze.count_watch()
    assert gc.get_freeze_count() >= before + len(kept)
    assert not any(one is kept for one in gc.get_objects())
