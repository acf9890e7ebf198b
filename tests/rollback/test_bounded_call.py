"""What may not come back is not waited for."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

import pytest

from rollback_budget.rollback.bounded_call import NoAnswerError, call_within

pytestmark = pytest.mark.pure

LONG, SHORT = timedelta(minutes=1), timedelta(milliseconds=10)


def test_a_result_is_returned_and_an_error_raised() -> None:
    assert call_within(LONG, lambda: 42) == 42
    with pytest.raises(KeyError):
        call_within(LONG, lambda: {}["missing"])


def test_a_call_that_hangs_is_left_behind() -> None:
    test_is_over = Event()
    try:
        with pytest.raises(NoAnswerError, match="no answer within"):
            call_within(SHORT, test_is_over.wait)
    finally:
        test_is_over.set()
