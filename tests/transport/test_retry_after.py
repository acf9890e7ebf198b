"""``Retry-After``: both forms, one cap, and nothing for what cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rollback_budget.transport.retry_after import LONGEST_WAIT, retry_after, until_reset

pytestmark = pytest.mark.pure

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 90 ", 90),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sunday, 01-Mar-26 12:01:30 GMT", 90),
        ("Sun Mar  1 12:01:30 2026", 90),
        ("Sun, 01 Mar 2026 13:01:30 +0100", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
    ],
)
def test_seconds_and_dates_are_read(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["86401", "999999999", "9" * 5000, "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_no_client_waits_for_more_than_a_day_whatever_the_form(value: str) -> None:
    assert retry_after({"retry-after": value}, NOW) == LONGEST_WAIT == timedelta(days=1)


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "٣", "1e3", "Sun, 99 Foo 2026 12:00 GMT", "1 2"])
def test_what_cannot_be_read_says_nothing(value: str) -> None:
    assert retry_after({"retry-after": value}, NOW) is None
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize("name", ["x-ratelimit-reset", "ratelimit-reset"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("9", 9), (str(int(NOW.timestamp()) + 90), 90), (str(int(NOW.timestamp()) - 90), 0)],
)
def test_the_reset_of_a_rate_limit_is_read_as_a_wait_and_as_a_time(
    name: str, value: str, seconds: float
) -> None:
    assert until_reset({name: value}, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "9" * 11])
def test_a_reset_that_cannot_be_read_says_nothing(value: str) -> None:
    assert until_reset({"x-ratelimit-reset": value}, NOW) is None


def test_a_reset_that_is_far_away_is_cut_to_a_day() -> None:
    assert until_reset({"x-ratelimit-reset": "9999999999"}, NOW) == LONGEST_WAIT
