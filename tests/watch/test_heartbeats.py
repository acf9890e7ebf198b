"""Every poll of a watch is a sign of life, by the ledger's clock."""

from __future__ import annotations

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.watch.look_writer import LookWriter
from rollback_budget.watch.watcher import Watcher
from tests.engine.builders import START, at
from tests.watch.test_looks_to_ledger import KEY, LOG, SOON, RecordedWatch, start_watch

pytestmark = pytest.mark.database


def watched(ledger: Ledger) -> RecordedWatch:
    simulation = start_watch(ledger)
    ledger.rollouts.record_shipped(KEY, START, START + simulation.spec.window)
    restart(simulation, ledger)
    return simulation


def restart(simulation: RecordedWatch, ledger: Ledger) -> None:
    """Let the watch begin anew, as after a crash."""
    simulation.writer = LookWriter(
        lambda: ledger.looks,
        log=LOG,
        batch_wait=SOON,
        retry_after=SOON,
        now=lambda: simulation.now,
        open_heartbeats=lambda: ledger.watch_heartbeats,
    )
    simulation.watcher = simulation.new_watcher()


@pytest.mark.parametrize("is_down", [False, True])
async def test_every_poll_is_a_sign_of_life_however_old_its_data_are(ledger: Ledger, is_down: bool) -> None:
    simulation = watched(ledger)
    if is_down:
        simulation.backend.down = (0, 600)
    before = utc_now()
    await simulation.watch(1, 5)
    assert simulation.flushed()
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert signs.looked_at == (None if is_down else at(5))
    assert signs.heartbeat_at is not None
    assert signs.heartbeat_at >= before


async def test_a_watch_that_replays_what_the_ledger_has_is_alive(ledger: Ledger) -> None:
    simulation = watched(ledger)
    await simulation.watch(1, 5)
    assert simulation.flushed()
    restart(simulation, ledger)
    await simulation.watch(5, 5)
    assert simulation.flushed()
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert signs.heartbeat_at is not None


async def test_a_writer_without_heartbeats_and_a_watch_without_a_writer_write_none(ledger: Ledger) -> None:
    simulation = start_watch(ledger)
    simulation.backend.down = (0, 600)
    await simulation.watch(1, 2)
    assert simulation.flushed()
    alone = Watcher(simulation.plan, simulation.watcher._open_source, log=LOG, now=lambda: simulation.now)
    assert await alone.look() is None
    ledger.rollouts.record_shipped(KEY, START, START + simulation.spec.window)
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert not signs.has_looked
