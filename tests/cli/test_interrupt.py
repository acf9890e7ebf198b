"""Ctrl-C ends a command that stays, wherever it was just then."""

from __future__ import annotations

import signal

import pytest

from rollback_budget.cli.interrupt import interruptible

pytestmark = pytest.mark.pure


class Finalized:
    """What is interrupted while it is thrown away, where Python swallows every exception."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_it_is_not_lost_in_code_that_swallows_exceptions() -> None:
    with interruptible() as is_interrupted_within:
        assert not is_interrupted_within(0)
        Finalized()
        assert is_interrupted_within(60)


def test_a_second_one_interrupts_at_once() -> None:
    with interruptible():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_it_does_what_it_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
