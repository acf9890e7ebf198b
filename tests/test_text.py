"""Numbers with their nouns, in the singular and the plural."""

from __future__ import annotations

import pytest

from rollback_budget.text import counted, plural, printable

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("noun", "none", "one", "two"),
    [
        ("case", "0 cases", "1 case", "2 cases"),
        ("new case", "0 new cases", "1 new case", "2 new cases"),
        ("query", "0 queries", "1 query", "2 queries"),
        ("day", "0 days", "1 day", "2 days"),
        ("breach", "0 breaches", "1 breach", "2 breaches"),
    ],
)
def test_a_noun_behind_a_number_is_in_the_singular_for_one_only(
    noun: str, none: str, one: str, two: str
) -> None:
    assert [plural(count, noun) for count in (0, 1, 2)] == [none, one, two]


@pytest.mark.parametrize(
    ("unit", "none", "one", "two"),
    [
        ("incidents", "0 incidents", "1 incident", "2 incidents"),
        ("high_severity_incidents", "0 high_severity_incidents", "1 high_severity_incident", None),
        ("crashes", "0 crashes", "1 crash", "2 crashes"),
        ("cases", "0 cases", "1 case", "2 cases"),
        ("retries", "0 retries", "1 retry", "2 retries"),
        ("s", "0 s", "1 s", "2 s"),
        ("ms", "0 ms", "1 ms", "2 ms"),
        ("Gbps", "0 Gbps", "1 Gbps", "2 Gbps"),
        ("loss", "0 loss", "1 loss", "2 loss"),
        ("USD", "0 USD", "1 USD", "2 USD"),
        ("req/s", "0 req/s", "1 req/s", "2 req/s"),
    ],
)
def test_a_unit_given_in_the_plural_is_in_the_singular_for_one_and_a_symbol_never_changes(
    unit: str, none: str, one: str, two: str | None
) -> None:
    assert counted("0", unit) == none
    assert counted("1", unit) == one
    assert counted("2", unit) == (two or f"2 {unit}")
    assert counted("1.5", unit) == f"1.5 {unit}"


def test_control_characters_of_a_name_reach_no_terminal() -> None:
    assert printable("v42\x1b[31m") == "v42\\x1b[31m"
