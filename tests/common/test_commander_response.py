"""What a commander types at three in the morning, and what it is taken for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollback_budget.common.commander_response import (
    Choice,
    CommanderResponse,
    InvalidResponseError,
    read_response,
    read_until,
)

pytestmark = pytest.mark.pure

ASKED = datetime(2026, 3, 1, 23, 12, tzinfo=UTC)
WINDOW_END = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def reply(choice: Choice, by: str | None = "casey", **given: Any) -> CommanderResponse:
    user = None if by is None else {"id": by, "name": by}
    return read_response(
        {
            "chosen_options": [choice.value],
            "params_input": given,
            "responded_at": ASKED,
            "responded_by_user": user,
        },
        WINDOW_END,
    )


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("23:30", ASKED + timedelta(minutes=18)),
        ("03:27", datetime(2026, 3, 2, 3, 27, tzinfo=UTC)),
        ("3.27 utc", datetime(2026, 3, 2, 3, 27, tzinfo=UTC)),
        ("2026-03-02T03:27", datetime(2026, 3, 2, 3, 27, tzinfo=UTC)),
        ("2026-03-02 05:27+02:00", datetime(2026, 3, 2, 3, 27, tzinfo=UTC)),
        ("2026-03-09T03:27Z", WINDOW_END),
        (None, WINDOW_END),
    ],
)
def test_a_time_is_the_next_such_time_and_no_later_than_the_window(text: str | None, until: datetime) -> None:
    assert read_until(text, ASKED, WINDOW_END) == until


@pytest.mark.parametrize("text", ["soon", "25:00", "2026-03-01T20:00Z", "3", "tomorrow 3 am"])
def test_a_time_that_cannot_be_meant_is_asked_again_but_never_keeps_a_rollback_waiting(text: str) -> None:
    with pytest.raises(InvalidResponseError, match="until"):
        reply(Choice.GO_ON, reason="a known spike", until=text)
    assert reply(Choice.ROLL_BACK, until=text, mute="?").choice is Choice.ROLL_BACK


@pytest.mark.parametrize("choice", [Choice.GO_ON, Choice.PROMOTE])
@pytest.mark.parametrize("reason", [None, "", "   ", "ok", 17])
def test_who_goes_against_the_rule_says_why(choice: Choice, reason: object) -> None:
    with pytest.raises(InvalidResponseError, match="needs a reason"):
        reply(choice, reason=reason)
    assert reply(choice, reason=" a known spike ").reason == "a known spike"


def test_an_override_mutes_only_when_it_says_so() -> None:
    assert not reply(Choice.GO_ON, reason="a known spike", until="03:27").mute
    assert reply(Choice.GO_ON, reason="a known spike", mute=True).mute
    assert not reply(Choice.PROMOTE, reason="a known spike", mute=True).mute


def test_silence_needs_no_reason_and_mutes_nothing() -> None:
    silent = reply(Choice.GO_ON, by=None, reason=None, until=None, mute=True)
    assert (silent.by, silent.until, silent.mute) == (None, WINDOW_END, False)


def test_a_rest_client_that_leaves_out_fields_is_understood() -> None:
    assert reply(Choice.GO_ON, reason="a known spike").until == WINDOW_END
